// SPDX-License-Identifier: Apache-2.0
// The health of pools and their disks as people read it.

import type { ResultOf } from '../control/method_table.ts';
import type { WirePoolHealth } from '../health/wire.ts';
import type { ManageMethods } from '../volume/manage_protocol.ts';
import { type Column, formatTable, printable } from './table.ts';

type Report = ResultOf<ManageMethods, 'health'>;
type Smart = WirePoolHealth['smart'][number];

const COLUMNS: Column<WirePoolHealth>[] = [
  { title: 'POOL', value: ({ pool }) => pool },
  { title: 'STATE', value: ({ state = '-' }) => state },
  { title: 'HEALTH', value: ({ verdict }) => verdict },
  { title: '', value: ({ reason = '' }) => reason },
];

export function formatHealth({ pools, events, incomplete }: Report): string {
  const lines = pools.length > 0 ? [formatTable(COLUMNS, pools)] : [];
  if (incomplete !== undefined) lines.push(`There may be other pools: ${printable(incomplete)}`);
  else if (pools.length === 0) lines.push('There are no pools.');
  lines.push(...events.map((event) => `! ${printable(event.message)}`));
  return lines.join('\n');
}

const SMART_COLUMNS: Column<Smart>[] = [
  { title: 'DISK', value: ({ disk }) => disk },
  { title: 'DEVICE', value: ({ device }) => device },
  { title: 'MODEL', value: ({ model = '-' }) => model },
  { title: 'PASSED', value: ({ passed }) => (passed === undefined ? '-' : passed ? 'yes' : 'NO') },
  { title: '°C', right: true, value: ({ temperatureC }) => numberOf(temperatureC) },
  { title: 'HOURS ON', right: true, value: ({ hoursOn }) => numberOf(hoursOn) },
  { title: 'REPLACED', right: true, value: ({ reallocated }) => numberOf(reallocated) },
  { title: 'UNSURE', right: true, value: ({ pending }) => numberOf(pending) },
  { title: 'LOST', right: true, value: (one) => numberOf(one.uncorrectable ?? one.mediaErrors) },
  { title: '', value: ({ reason = '' }) => reason },
];

export function formatSmart(disks: Smart[]): string {
  return formatTable(SMART_COLUMNS, disks);
}

function numberOf(value: number | undefined): string {
  return value === undefined ? '-' : String(value);
}
