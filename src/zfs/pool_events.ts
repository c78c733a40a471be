// SPDX-License-Identifier: Apache-2.0
// What `zpool events -Hv` prints: a line of time and class, then indented properties. Pure.

export interface PoolEvent {
  /** Milliseconds since 1970; the kernel's clock, in local time. */
  at: number;
  /** Such as ereport.fs.zfs.delay or sysevent.fs.zfs.resilver_finish. */
  kind: string;
  pool?: string;
  /** Of the disk that it is about. */
  vdev?: string;
}

const HEAD = /^([A-Z][a-z]{2} [ \d]\d \d{4} \d\d:\d\d:\d\d)(?:\.\d+)?\s+(\S+)$/;
const PROPERTY = /^\s+(pool|vdev_path) = "([^"]*)"/;

/** What has no time is skipped: an event of another version costs no other. */
export function parseEvents(text: string): PoolEvent[] {
  const events: PoolEvent[] = [];
  for (const line of text.split('\n')) {
    const [, time, kind] = HEAD.exec(line) ?? [];
    if (time !== undefined && kind !== undefined) {
      events.push({ at: new Date(time.replace(/ +/g, ' ')).getTime(), kind });
      continue;
    }
    const [, name, value = ''] = PROPERTY.exec(line) ?? [];
    const last = events.at(-1);
    if (!last) continue;
    if (name === 'pool') last.pool = value;
    if (name === 'vdev_path') last.vdev = value;
  }
  return events;
}
