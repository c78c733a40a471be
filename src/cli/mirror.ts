// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { Methods, WireMirror } from '../control/protocol.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { rateOption } from './rate.ts';
import { formatFields } from './table.ts';
import { formatBytes } from './units.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

type Request = Omit<Methods['mirror']['params'], 'vbd'>;
type Result = Methods['mirror']['result'];

interface MirrorOptions extends DaemonOptions {
  mode?: 'copy' | 'sync';
  rate?: string;
  switch?: boolean;
  pause?: boolean;
  resume?: boolean;
}

const START_HELP = `
With --mode copy (the default) the guest never waits for the target: what it writes is copied after
it. With --mode sync a write is answered when both have it. Holes stay holes. A target that fails or
hangs ends the mirror, and the guest notices nothing.

Example:
  ringdisk mirror start 3/xvda /dev/nvme1n1 --switch
  ringdisk mirror start 3/xvda nbd:unix:/run/other.sock:exportname=disk --rate 200M`;

const SWITCH_HELP = `
At once where the target has all there is, else as soon as it has. The guest notices nothing. What
the toolstack's node names stays as it is: the guest's next start uses that, so change the guest's
configuration as well.

Example:
  ringdisk mirror switch 3/xvda`;

export function addMirror(program: Command): void {
  const command = program
    .command('mirror')
    .description('copy a disk to another target while its guest uses it, and switch to that');
  addStart(command);
  const add = (name: 'status' | 'stop' | 'switch', description: string, help = '') => {
    const child = command.command(name).description(description).argument('<vbd>', VBD_ARGUMENT);
    addDaemonOptions(child.addHelpText('after', help)).action(
      (vbd: string, options: DaemonOptions) => mirror(vbd, { action: name }, options),
    );
  };
  add('status', 'show how far it is');
  addSet(command);
  add('switch', 'make the target the disk', SWITCH_HELP);
  add('stop', 'end the mirror; the disk stays what it is');
}

function addStart(parent: Command): void {
  const command = parent
    .command('start')
    .description('begin to mirror a disk')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<target>', 'as in a toolstack’s configuration; at least as large as the disk')
    .addOption(modeOption().default('copy'))
    .option('--rate <rate>', 'copy no more than so many bytes a second (20M), or off')
    .option('--switch', 'make the target the disk as soon as it has all there is')
    .addHelpText('after', START_HELP);
  addDaemonOptions(command).action((vbd: string, target: string, options: MirrorOptions) => {
    const { mode, rate, switch: switchWhenReady } = options;
    const more = { ...(mode && { mode }), ...(switchWhenReady && { switchWhenReady }) };
    return mirror(vbd, { action: 'start', target, ...more, ...rateOption(rate) }, options);
  });
}

function addSet(parent: Command): void {
  const command = parent
    .command('set')
    .description('change how a mirror goes on')
    .argument('<vbd>', VBD_ARGUMENT)
    .addOption(modeOption())
    .option('--rate <rate>', 'copy no more than so many bytes a second (20M), or off')
    .option('--pause', 'copy nothing for now')
    .option('--resume', 'go on')
    .addHelpText('after', '\nExample:\n  ringdisk mirror set 3/xvda --rate 50M --mode sync');
  addDaemonOptions(command).action((vbd: string, options: MirrorOptions) => {
    const { mode, rate, pause, resume } = options;
    if (pause && resume) throw new UsageError('--pause and --resume contradict each other.');
    const paused = pause || resume ? { paused: pause === true } : {};
    return mirror(
      vbd,
      { action: 'set', ...(mode && { mode }), ...rateOption(rate), ...paused },
      options,
    );
  });
}

function modeOption(): Option {
  const option = new Option('--mode <mode>', 'whether guests wait for the target');
  return option.choices(['copy', 'sync']);
}

async function mirror(vbd: string, request: Request, options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('mirror', { vbd, ...request }));
  printResult(`mirror ${request.action}`, options, result, () => formatResult(result));
}

function formatResult({ vbd, mirror: now, target }: Result): string {
  if (now) return formatFields([['vbd', vbd], ...mirrorFields(now)]);
  if (!target?.isSwitched) return `${vbd} is not mirrored.`;
  return (
    `${vbd} is ${target.kind} ${target.path} now. The toolstack's node still names ` +
    `${target.spec}: the guest's next start uses that.`
  );
}

function percent({ bytes, bytesBehind }: WireMirror): string {
  return `${bytes === 0 ? 0 : Math.floor(((bytes - bytesBehind) / bytes) * 100)} %`;
}

/** "mirror copying 37 %": for the state in a table. */
export function mirrorName(now: WireMirror): string {
  const progress = now.state === 'copying' || now.state === 'paused' ? ` ${percent(now)}` : '';
  return `mirror ${now.state}${progress}`;
}

export function mirrorFields(now: WireMirror): [name: string, value: string][] {
  const { kind, path, mode, state, bytes, bytesBehind, rate, speed, secondsLeft, error } = now;
  const { switchWhenReady, sourceErrors } = now;
  if (state === 'failed') {
    return [
      ['mirror', `failed: ${error ?? 'it is over'}`],
      ['mirror target', `${kind} ${path}`],
    ];
  }
  const both = mode === 'sync' ? 'sync: both have what was answered' : 'copy: the target follows';
  return [
    ['mirror', `${state}, ${percent(now)}`],
    ['mirror target', `${kind} ${path}`],
    ['mirror mode', both],
    ['to be copied', `${formatBytes(bytesBehind)} of ${formatBytes(bytes)}`],
    ['copy rate', rate === 0 ? 'as fast as it goes' : `${formatBytes(rate)} a second`],
    ...(speed > 0 ? [field('copies', `${formatBytes(speed)} a second`)] : []),
    ...(secondsLeft === undefined ? [] : [field('takes', `about ${secondsLeft} s more`)]),
    ...(switchWhenReady ? [field('switch', 'as soon as it is ready')] : []),
    ...(sourceErrors > 0 ? [field('reads failed', String(sourceErrors))] : []),
    ...(error === undefined ? [] : [field('mirror waits', error)]),
  ];
}

function field(name: string, value: string): [name: string, value: string] {
  return [name, value];
}
