// SPDX-License-Identifier: Apache-2.0
// When a job is due: "every 15m", or a cron expression of five fields in the host's local time.
import { Cron } from 'croner';

const UNITS: Record<string, number> = { m: 60, h: 3600, d: 86_400, w: 7 * 86_400 };
const EVERY_MAX_S = 366 * 86_400;

export type Schedule =
  | { kind: 'every'; ms: number }
  /** Milliseconds since 1970; undefined: never again. */
  | { kind: 'cron'; after(ms: number): number | undefined };

/** Throws RangeError with a sentence. */
export function parseSchedule(text: string): Schedule {
  const [, number, unit = ''] = /^every (\d{1,5})([mhdw])$/.exec(text) ?? [];
  if (number !== undefined) {
    const seconds = Number(number) * (UNITS[unit] ?? 0);
    if (seconds > 0 && seconds <= EVERY_MAX_S) return { kind: 'every', ms: seconds * 1000 };
  } else if (/^(@[a-z]+|\S+( +\S+){4})$/.test(text)) {
    const cron = parseCron(text);
    if (cron) return { kind: 'cron', after: (ms) => cron.nextRun(new Date(ms))?.getTime() };
  }
  throw new RangeError(
    `${JSON.stringify(text)} is no schedule: give "every 15m" (m, h, d or w), @hourly, @daily, ` +
      '@weekly or @monthly, or five fields as cron has them, such as "30 2 * * *".',
  );
}

function parseCron(text: string): Cron | undefined {
  try {
    const cron = new Cron(text, { mode: '5-part', paused: true });
    return cron.nextRun() ? cron : undefined;
  } catch {
    return undefined;
  }
}

/** The next time after `last`, in milliseconds since 1970; what is missed counts once. */
export function nextTime(schedule: Schedule, last: number): number | undefined {
  return schedule.kind === 'every' ? last + schedule.ms : schedule.after(last);
}
