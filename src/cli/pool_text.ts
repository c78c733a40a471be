// SPDX-License-Identifier: Apache-2.0
// A pool's status and a plan as people read them.
import type { WirePlan, WirePool, WireStatus } from '../volume/manage_protocol.ts';
import type { WireVdev } from '../volume/manage_schemas.ts';
import { printResult } from './output.ts';
import { formatSmart } from './pool_health_text.ts';
import { type Column, formatFields, formatTable, printable } from './table.ts';
import { formatBytes } from './units.ts';
import type { ManagerOptions } from './with_manager.ts';

const POOL_COLUMNS: Column<WirePool>[] = [
  { title: 'POOL', value: ({ pool }) => pool },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'STORE', value: ({ store }) => (store ? store.name : '-') },
  { title: 'USED', right: true, value: ({ usedBytes }) => formatBytes(usedBytes) },
  { title: 'FREE', right: true, value: ({ freeBytes }) => formatBytes(freeBytes) },
  { title: 'RESERVED', right: true, value: ({ reservedBytes }) => formatBytes(reservedBytes) },
  { title: 'FRAG', right: true, value: ({ fragmentation }) => `${fragmentation} %` },
  { title: 'GUID', value: ({ guid }) => guid },
];

interface Row {
  depth: number;
  vdev: WireVdev;
}

const VDEV_COLUMNS: Column<Row>[] = [
  { title: 'DISK', value: ({ depth, vdev }) => `${'  '.repeat(depth)}${vdev.name}` },
  { title: 'STATE', value: ({ vdev }) => vdev.state || '-' },
  { title: 'READ', right: true, value: ({ vdev }) => String(vdev.readErrors) },
  { title: 'WRITE', right: true, value: ({ vdev }) => String(vdev.writeErrors) },
  { title: 'CHECKSUM', right: true, value: ({ vdev }) => String(vdev.checksumErrors) },
  { title: '', value: ({ vdev }) => vdev.note ?? '' },
];

export function formatStatus(status: WireStatus): string {
  const { pool, state, healthy, vdevs } = status;
  const optional = (name: string, value: string | undefined): [string, string][] =>
    value === undefined ? [] : [[name, value]];
  const fields: [string, string][] = [
    ['pool', pool],
    ['state', `${state}, ${healthy ? 'healthy' : 'NOT healthy'}`],
    [
      'space',
      `${formatBytes(status.usedBytes)} used, ${formatBytes(status.freeBytes)} free, ` +
        `${formatBytes(status.reservedBytes)} reserved`,
    ],
    ['raw space used', `${status.capacity} %, fragmented ${status.fragmentation} %`],
    ...optional('status', status.status),
    ...optional('action', status.action),
    ...optional('scan', status.scan),
    ['errors', status.errors],
  ];
  const tables = Object.entries(vdevs).flatMap(([role, list]) => {
    if (list.length === 0) return [];
    return [
      `${role}:`,
      formatTable(
        VDEV_COLUMNS,
        list.flatMap((vdev) => rowsOf(vdev, 0)),
      ),
    ];
  });
  const events = (status.events ?? []).map(({ message }) => `! ${printable(message)}`);
  const warnings = status.events ? events : status.warnings.map((text) => `! ${text}`);
  return [formatFields(fields), ...warnings, '', ...tables, ...smartLines(status)].join('\n');
}

function smartLines({ smart = [] }: WireStatus): string[] {
  return smart.length === 0 ? [] : ['SMART:', formatSmart(smart)];
}

function rowsOf(vdev: WireVdev, depth: number): Row[] {
  return [{ depth, vdev }, ...vdev.children.flatMap((child) => rowsOf(child, depth + 1))];
}

export function formatPlan(plan: WirePlan): string {
  const groups = plan.groups.map(({ role, kind, disks }): [string, string] => [
    role,
    `${kind}: ${disks.join(' ')}`,
  ]);
  return [
    formatFields([
      ...groups,
      ['raw', formatBytes(plan.rawBytes)],
      ['for volumes', formatBytes(plan.usableBytes)],
      ['reserved', formatBytes(plan.reservedBytes)],
      ['ashift', String(plan.ashift)],
    ]),
    ...plan.failures,
    ...plan.warnings.map((text) => `! ${text}`),
    plan.command.join(' '),
  ].join('\n');
}

export function formatPools(pools: WirePool[]): string {
  return formatTable(POOL_COLUMNS, pools);
}

export function printPool(verb: string, options: ManagerOptions, pool: WirePool): void {
  printResult(`pool ${verb}`, options, { pool }, () => formatPools([pool]));
}

export function printStatus(verb: string, options: ManagerOptions, status: WireStatus): void {
  printResult(`pool ${verb}`, options, { status }, () => formatStatus(status));
}
