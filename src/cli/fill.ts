// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Methods, WireFill } from '../control/protocol.ts';
import { printResult } from './output.ts';
import { rateOf } from './rate.ts';
import { formatFields } from './table.ts';
import { formatBytes } from './units.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

type Change = Omit<Methods['fill']['params'], 'vbd'>;

export function addFill(program: Command): void {
  const command = program
    .command('fill')
    .description('look at a disk that is filled from its source, and set its pace');
  const add = (name: string, description: string, change: Change) => {
    const child = command.command(name).description(description).argument('<vbd>', VBD_ARGUMENT);
    addDaemonOptions(child).action((vbd: string, options: DaemonOptions) =>
      fill(name, vbd, change, options),
    );
  };
  add('status', 'show how far it is', {});
  add('pause', 'fetch only what the guest asks for', { paused: true });
  add('resume', 'go on with the rest', { paused: false });
  addRate(command);
}

function addRate(parent: Command): void {
  const command = parent
    .command('rate')
    .description('fetch no more than so much a second of what the guest has not asked for')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<rate>', 'bytes a second (20M), or off')
    .addHelpText('after', '\nExample:\n  ringdisk fill rate 3/xvda 20M');
  addDaemonOptions(command).action((vbd: string, text: string, options: DaemonOptions) =>
    fill('rate', vbd, { rate: rateOf(text) }, options),
  );
}

async function fill(
  name: string,
  vbd: string,
  change: Change,
  options: DaemonOptions,
): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('fill', { vbd, ...change }));
  printResult(`fill ${name}`, options, result, () => formatFields(fillFields(result.fill)));
}

/** "filling 37 %", "full": for the state in a table. */
export function fillName({ state, bytes, bytesHere }: WireFill): string {
  return state === 'full' ? 'full' : `${state} ${Math.floor((bytesHere / bytes) * 100)} %`;
}

export function fillFields(fill: WireFill): [name: string, value: string][] {
  const { state, bytes, bytesHere, bytesUnsaved, rate, errors, error } = fill;
  if (state === 'full') return [['fill', 'full: its source is not needed any more']];
  return [
    ['fill', fillName(fill)],
    ['here', `${formatBytes(bytesHere)} of ${formatBytes(bytes)}`],
    ['not yet saved', formatBytes(bytesUnsaved)],
    ['rate', rate === 0 ? 'as fast as it goes' : `${formatBytes(rate)} a second`],
    ...(errors > 0 ? ([['fill errors', String(errors)]] as [string, string][]) : []),
    ...(error === undefined
      ? []
      : ([['fill fails', `with ${error}: it is tried again`]] as [string, string][])),
  ];
}
