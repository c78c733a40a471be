// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { WireVbd } from '../control/protocol.ts';
import { fillFields } from './fill.ts';
import { formatLatencyRows, latencyRows, mapLatency, withPercentiles } from './latency.ts';
import { formatLimits } from './limit.ts';
import { mirrorFields } from './mirror.ts';
import { printResult } from './output.ts';
import { formatFields } from './table.ts';
import { formatBytes, formatCount } from './units.ts';
import { waitFields } from './waits.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

type Fields = [name: string, value: string][];

export function addShow(program: Command): void {
  const command = program
    .command('show')
    .description('show all there is to know about one disk')
    .argument('<vbd>', VBD_ARGUMENT)
    .addHelpText('after', '\nExample:\n  ringdisk show 3/xvda');
  addDaemonOptions(command).action(show);
}

async function show(vbd: string, options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('show', { vbd }));
  const { latency } = result.vbd;
  const forPrograms = latency && { latency: mapLatency(latency, withPercentiles) };
  printResult('show', options, { vbd: { ...result.vbd, ...forPrograms } }, () =>
    formatVbd(result.vbd),
  );
}

function formatVbd(vbd: WireVbd): string {
  const filled = vbd.fill ? fillFields(vbd.fill) : [];
  const mirrored = vbd.mirror ? mirrorFields(vbd.mirror) : [];
  const before = [generalFields(vbd), targetFields(vbd), filled, mirrored];
  const sections = [...before, agreedFields(vbd), counterFields(vbd)];
  const fields = sections.filter((section) => section.length > 0).map(formatFields);
  const latency = vbd.latency ? formatLatencyRows(latencyRows(vbd.name, vbd.latency)) : '';
  return [...fields, ...(latency ? [latency] : [])].join('\n\n');
}

function generalFields(vbd: WireVbd): Fields {
  return [
    ['vbd', vbd.name],
    ['vdev', vbd.vdev ?? '-'],
    ['state', vbd.state],
    ['frontend', vbd.frontendState],
    ['mode', vbd.readOnly ? 'read only' : 'read and write'],
    ...(vbd.onError ? ([['on error', vbd.onError]] satisfies Fields) : []),
    ...(vbd.limits ? ([['limits', formatLimits(vbd.limits)]] satisfies Fields) : []),
    ...(vbd.limitsProblem ? ([['limits stay', vbd.limitsProblem]] satisfies Fields) : []),
    ...waitFields(vbd),
    ...(vbd.bitmaps ?? []).map(({ name, state, dirtyBytes }): [string, string] => [
      'bitmap',
      `${name}: ${state}, ${formatBytes(dirtyBytes)} changed`,
    ]),
    ...(vbd.askedTarget === undefined
      ? []
      : ([['asked for', vbd.askedTarget || 'no disc']] satisfies Fields)),
    ...(vbd.error ? ([['error', vbd.error]] satisfies Fields) : []),
  ];
}

function targetFields({ target }: WireVbd): Fields {
  if (!target) return [];
  const { capabilities: can } = target;
  const discard = can.discard ? `yes, in ${formatBytes(can.discardGranularity)}` : 'no';
  return [
    ['target', target.spec],
    ['opened as', `${target.kind} ${target.path}`],
    ...(target.isSwitched ? switchedFields(target.spec) : []),
    ['capacity', `${formatBytes(can.capacity)} (${formatCount(can.capacity / 512)} sectors)`],
    ['direct I/O', can.direct ? `yes, aligned to ${formatBytes(can.ioAlignment)}` : 'no'],
    ['physical block', formatBytes(can.physicalBlock)],
    ['discard', discard],
    ...helperFields(target.helper),
    ...can.warnings.map((warning): [string, string] => ['warning', warning]),
  ];
}

function switchedFields(spec: string): Fields {
  return [['switched', `from a mirror; the guest's next start uses ${spec}`]];
}

function helperFields(helper: NonNullable<WireVbd['target']>['helper']): Fields {
  if (!helper) return [];
  const { program, pid, restarts, error, chain } = helper;
  const runs = pid === undefined ? 'does not run' : `process ${pid}`;
  const again = restarts > 0 ? `, started again ${formatCount(restarts)} times` : '';
  return [
    ['served by', `${program}, ${runs}${again}`],
    ...chain.map(({ format, path }, index): [string, string] => [
      index === 0 ? 'image' : 'based on',
      `${format} ${path}`,
    ]),
    ...(error === undefined ? [] : ([['helper', error]] satisfies Fields)),
  ];
}

function agreedFields({ agreement, reactors = [] }: WireVbd): Fields {
  if (!agreement) return [];
  return [
    ['queues', String(agreement.queues.length)],
    ['ring pages', `${2 ** agreement.ringPageOrder} per queue`],
    ['indirect segments', String(agreement.indirectSegmentsMax)],
    ['grants', agreement.grants],
    ['request format', agreement.abi],
    ['reactors', reactors.join(' ')],
  ];
}

function counterFields({ counters }: WireVbd): Fields {
  if (!counters) return [];
  // "readModifyWrites" → "read modify writes"
  const words = (key: string) => key.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return Object.entries(counters).map(([key, value]) => [
    words(key),
    key.endsWith('Bytes') ? formatBytes(value) : formatCount(value),
  ]);
}
