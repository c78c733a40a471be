// SPDX-License-Identifier: Apache-2.0
// Stacks of a running process, recorded with perf.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { RingdiskError } from '../errors.ts';

/** Samples per second and CPU: enough for a picture, and not in step with timers. */
export const FREQUENCY_HZ = 199;
// A timer's, since virtual machines seldom have hardware's counters.
const EVENT = 'cpu-clock';
// Unwound from copies of the stack: code that was compiled without frame pointers (libc, Node)
// would hide its callers. 8 KiB is not enough for Node's own.
const CALL_GRAPH = 'dwarf,32768';
const STDERR_TAIL = 2000;

/**
 * Records `pid` for so many seconds, or until Ctrl-C, and hands each line of `perf script` to
 * `onLine`. Throws RingdiskError where perf is missing, may not, or fails.
 */
export async function record(
  pid: number,
  tids: number[] | undefined,
  seconds: number,
  onLine: (line: string) => void,
): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'ringdisk-perf-'));
  const data = path.join(folder, 'perf.data');
  try {
    const whom = tids ? ['--tid', tids.join(',')] : ['--pid', String(pid)];
    const how = ['-e', EVENT, '-F', String(FREQUENCY_HZ), '--call-graph', CALL_GRAPH];
    // Ctrl-C reaches perf too, which then writes what it has.
    await perf(['record', '-q', '-o', data, ...how, ...whom, '--', 'sleep', String(seconds)]);
    // Without --no-inline it takes minutes.
    const fields = ['-F', 'comm,tid,ip,sym,dso'];
    await perf(['script', '-i', data, '--no-inline', ...fields], onLine);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function perf(args: string[], onLine: (line: string) => void = () => {}): Promise<void> {
  const onInterrupt = () => {};
  process.on('SIGINT', onInterrupt);
  try {
    await runPerf(args, onLine);
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}

function runPerf(args: string[], onLine: (line: string) => void): Promise<void> {
  const child = spawn('perf', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_TAIL);
  });
  const lines = createInterface({ input: child.stdout });
  lines.on('line', onLine);
  const read = new Promise<void>((resolve) => lines.once('close', resolve));
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(cannotRun(error)));
    child.on('close', async (code, signal) => {
      await read;
      if (code === 0 || signal === 'SIGINT') return resolve();
      reject(failed(args[0] ?? '', said));
    });
  });
}

function cannotRun(error: Error): RingdiskError {
  const why =
    (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'is not installed' : error.message;
  const remedy = "Debian: apt install linux-perf; others: the package of your kernel's tools";
  return new RingdiskError('PERF_FAILED', `perf ${why}. Install it (${remedy}).`);
}

function failed(what: string, said: string): RingdiskError {
  const level = paranoia();
  if (what === 'record' && process.getuid?.() !== 0 && level > 0) {
    return new RingdiskError(
      'PERF_FAILED',
      `perf may not record: /proc/sys/kernel/perf_event_paranoid is ${level}. Run this as root.`,
    );
  }
  const lines = said.trim().split('\n').slice(-3).join(' ');
  return new RingdiskError('PERF_FAILED', `perf ${what} failed: ${lines || 'it said nothing'}`);
}

function paranoia(): number {
  return Number(readFileSync('/proc/sys/kernel/perf_event_paranoid', 'utf8'));
}
