// SPDX-License-Identifier: Apache-2.0
// What is told of a disk, or of all disks of an SR: the names, types and units that XAPI's own
// plugin has for tapdisk's disks, so that whoever shows those shows these. Pure.
import type { Activity } from './growth.ts';
import type { DataSource } from './rrd_format.ts';

const MIB = 1024 * 1024;
const NS_PER_US = 1e3;
const NS_PER_S = 1e9;

type Entry = Omit<DataSource, 'owner'>;

/** `nameOf` puts a name in its place: "iops_read" is "vbd_xvda_iops_read" of a VM. */
export function ioSources(
  owner: DataSource['owner'],
  what: string,
  nameOf: (name: string) => string,
  activity: Activity,
  seconds: number,
): DataSource[] {
  const entries = [
    ...byteEntries(what, activity),
    ...requestEntries(activity),
    ...timeEntries(what, activity, seconds),
  ];
  return entries.map((entry) => ({ ...entry, owner, name: nameOf(entry.name) }));
}

function byteEntries(what: string, { since, all }: Activity): Entry[] {
  const total = { type: 'derive', valueType: 'int64', units: 'B/s' } as const;
  const rate = { type: 'absolute', valueType: 'float', units: 'MiB/s' } as const;
  const { readBytes, writeBytes } = since;
  const both = readBytes + writeBytes;
  return [
    entry('read', `Read from ${what}`, total, all.readBytes),
    entry('write', `Written to ${what}`, total, all.writeBytes),
    entry('io_throughput_read', `Read from ${what}`, rate, readBytes / MIB),
    entry('io_throughput_write', `Written to ${what}`, rate, writeBytes / MIB),
    entry('io_throughput_total', `Read from and written to ${what}`, rate, both / MIB),
  ];
}

function requestEntries({ since: { reads, writes } }: Activity): Entry[] {
  const rate = { type: 'absolute', valueType: 'int64', units: 'requests/s' } as const;
  return [
    entry('iops_read', 'Read requests', rate, reads),
    entry('iops_write', 'Write requests', rate, writes),
    entry('iops_total', 'Read and write requests', rate, reads + writes),
  ];
}

/** Times that requests took, from when each was seen until it was answered. */
function timeEntries(what: string, { since, inFlight }: Activity, seconds: number): Entry[] {
  const { reads, writes, readNs, writeNs } = since;
  const time = { type: 'gauge', valueType: 'int64', units: 'μs' } as const;
  const queue = { type: 'gauge', units: 'requests' } as const;
  const waited = (readNs + writeNs) / NS_PER_S;
  return [
    entry('read_latency', `Time that a read from ${what} takes`, time, mean(readNs, reads)),
    entry('write_latency', `Time that a write to ${what} takes`, time, mean(writeNs, writes)),
    entry(
      'latency',
      'Time that a request takes',
      { ...time, valueType: 'float' },
      mean(readNs + writeNs, reads + writes),
    ),
    entry(
      'iowait',
      'Time that all requests together have waited, by time',
      { type: 'absolute', valueType: 'float', units: 's/s' },
      waited,
    ),
    entry('inflight', 'Requests under way', { ...queue, valueType: 'int64' }, inFlight),
    entry(
      'avgqu_sz',
      'Requests under way, on average',
      { ...queue, valueType: 'float' },
      seconds > 0 ? waited / seconds : 0,
    ),
  ];
}

/** Microseconds. */
function mean(nanoseconds: number, requests: number): number {
  return requests > 0 ? nanoseconds / requests / NS_PER_US : 0;
}

function entry(
  name: string,
  description: string,
  kind: Pick<DataSource, 'type' | 'valueType' | 'units'>,
  value: number,
): Entry {
  return { name, description, ...kind, value };
}
