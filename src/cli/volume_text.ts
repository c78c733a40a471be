// SPDX-License-Identifier: Apache-2.0
// A volume as people read it.
import type { WireVolume } from '../volume/manage_protocol.ts';
import { printResult } from './output.ts';
import { type Column, formatFields, formatTable } from './table.ts';
import { formatBytes } from './units.ts';
import type { ManagerOptions } from './with_manager.ts';

const COLUMNS: Column<WireVolume>[] = [
  { title: 'VOLUME', value: nameOf },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'NAME', value: ({ name }) => name },
  { title: 'SIZE', right: true, value: ({ size }) => formatBytes(size) },
  { title: 'USED', right: true, value: ({ used }) => formatBytes(used) },
  { title: 'REFERENCED', right: true, value: ({ referenced }) => formatBytes(referenced) },
];

function nameOf({ pool, key }: WireVolume): string {
  return `${pool}/${key}`;
}

export function formatVolumes(volumes: WireVolume[]): string {
  return formatTable(COLUMNS, volumes);
}

export function printVolume(verb: string, options: ManagerOptions, volume: WireVolume): void {
  printResult(`volume ${verb}`, options, { volume }, () => formatFields(fieldsOf(volume)));
}

function fieldsOf(volume: WireVolume): [name: string, value: string][] {
  const { properties } = volume;
  const optional = (name: string, value: string | undefined): [string, string][] =>
    value === undefined || value === '' ? [] : [[name, value]];
  return [
    ['volume', nameOf(volume)],
    ['kind', volume.kind],
    ...optional('name', volume.name),
    ...optional('description', volume.description),
    ['size', formatBytes(volume.size)],
    ['block size', formatBytes(volume.blockSize)],
    ['used', `${formatBytes(volume.used)}, ${formatBytes(volume.referenced)} referenced`],
    ['space', volume.thick ? 'reserved (thick)' : 'as it is written (thin)'],
    ['dataset', volume.dataset],
    ...optional('device', volume.device),
    ...optional('target', volume.kind === 'volume' ? `zfs:${nameOf(volume)}` : undefined),
    ['uuid', volume.uuid],
    ...optional('snapshot of', volume.snapshotOf),
    ...optional('cloned from', volume.clonedFrom),
    ...optional('made by job', volume.job),
    ...optional('replica of job', volume.replicaOf),
    ...optional('encrypted', volume.encrypted ? keyWords(volume) : undefined),
    ...Object.entries(properties),
    ...Object.entries(volume.keys).map(([key, value]): [string, string] => [`key ${key}`, value]),
  ];
}

function keyWords({ keyLoaded }: WireVolume): string {
  return keyLoaded === false ? 'yes, its key is not loaded' : 'yes';
}
