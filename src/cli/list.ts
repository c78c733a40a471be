// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Methods, WireFill, WireLinkLoss, WireVbd } from '../control/protocol.ts';
import { fillName } from './fill.ts';
import { limitLines } from './limit.ts';
import { mirrorName } from './mirror.ts';
import { printResult } from './output.ts';
import { type Column, formatTable, printable } from './table.ts';
import { formatBytes } from './units.ts';
import { waitLines, waitNames } from './waits.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

const COLUMNS: Column<WireVbd>[] = [
  { title: 'VBD', value: (vbd) => vbd.name },
  { title: 'VDEV', value: (vbd) => vbd.vdev ?? '-' },
  { title: 'STATE', value: stateOf },
  { title: 'FRONTEND', value: (vbd) => vbd.frontendState },
  { title: 'MODE', value: (vbd) => (vbd.readOnly ? 'r' : 'w') },
  { title: 'SIZE', right: true, value: sizeOf },
  { title: 'QUEUES', right: true, value: (vbd) => String(vbd.agreement?.queues.length ?? '-') },
  { title: 'TARGET', value: (vbd) => vbd.target?.spec ?? '-' },
];

export function addList(program: Command): void {
  const command = program
    .command('list')
    .description('list the disks that the daemon serves')
    .addHelpText('after', '\nExample:\n  ringdisk list\n  ringdisk list --json');
  addDaemonOptions(command).action(list);
}

async function list(options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('list', {}));
  printResult('list', options, result, () => formatList(result));
}

function formatList({ vbds, xenstoreLost }: Methods['list']['result']): string {
  const lost = xenstoreLost ? [printable(lostLine(xenstoreLost))] : [];
  if (vbds.length === 0) return ['No disks. A toolstack puts them there.', ...lost].join('\n');
  const errors = vbds
    .filter((vbd) => vbd.error)
    .map((vbd) => printable(`${vbd.name}: ${vbd.error}`));
  const lines = [...waitLines(vbds), ...helperLines(vbds), ...limitLines(vbds), ...errors, ...lost];
  return [formatTable(COLUMNS, vbds), ...lines].join('\n');
}

/** Images that nothing serves for now. */
function helperLines(vbds: readonly WireVbd[]): string[] {
  return vbds.flatMap(({ name, target }) => {
    const { error } = target?.helper ?? {};
    return error === undefined ? [] : [printable(`${name}: ${error}; it is started again`)];
  });
}

function lostLine({ since, reason }: WireLinkLoss): string {
  const what = 'what a toolstack or a guest did since is unknown';
  return `xenstored is lost since ${since} (${reason}): ${what}`;
}

function stateOf(vbd: WireVbd): string {
  const jobs = [
    ...(isFilling(vbd) ? [fillName(vbd.fill)] : []),
    ...(vbd.mirror ? [mirrorName(vbd.mirror)] : []),
    ...(vbd.target?.isSwitched ? ['switched'] : []),
  ];
  const waits = [...waitNames(vbd), ...jobs];
  return waits.length > 0 ? `${vbd.state} (${waits.join(', ')})` : vbd.state;
}

function isFilling(vbd: WireVbd): vbd is WireVbd & { fill: WireFill } {
  return vbd.fill !== undefined && vbd.fill.state !== 'full';
}

function sizeOf(vbd: WireVbd): string {
  return vbd.target ? formatBytes(vbd.target.capabilities.capacity) : '-';
}
