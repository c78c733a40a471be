// SPDX-License-Identifier: Apache-2.0
// What must hold after every test whatever it did: quiet kernel and hypervisor logs, a living
// daemon; and once a scenario's guests are gone, nothing of theirs still held.
import { appendFile, readdir, readFile, stat } from 'node:fs/promises';
import { LOG as DAEMON_LOG, Daemon, quickStats } from './daemon.mjs';
import { STRAY_BREAKPOINT } from './guest_log.mjs';
import { run, waitFor } from './shell.mjs';

const LOGS = '/host/logs';
const KERNEL_TROUBLE = new RegExp(
  'WARNING:|BUG:|\\bOops\\b|Call Trace|general protection|blocked for more than|I/O error|' +
    'panic|segfault',
);
const XEN_TROUBLE = /WARNING|\bBUG\b|Assertion|call trace|grant_table\.c|Bad (handle|ref|flags)/i;
const TARGETS = /^\/(var\/lib\/rig|srv|dev\/(nvme|ng|loop|dm-))/;
/** How much more a daemon without a VBD may hold than when it was new. */
const RSS_GROWTH_MAX = 64 << 20;
const RELEASE_MS = 15_000;

/** Reads what the logs got since the last look. */
export class Logs {
  /** @type {Map<string, number>} */
  #seen = new Map();

  /**
   * @param {RegExp} [tolerated] lines this test provokes on purpose
   * @returns {Promise<string[]>} suspicious lines, each behind the log's name
   */
  async trouble(tolerated) {
    const dom0 = await this.#drain('dmesg', ['-c'], `${LOGS}/dom0_kernel.log`);
    const xen = await this.#drain('xl', ['dmesg', '-c'], `${LOGS}/xen.log`);
    const found = [
      ...suspicious('dom0', dom0, KERNEL_TROUBLE, tolerated),
      ...suspicious('xen', xen, XEN_TROUBLE, tolerated),
    ];
    for (const name of await readdir(LOGS)) {
      if (!name.startsWith('guest-')) continue;
      const lines = await this.#more(`${LOGS}/${name}`);
      found.push(...suspicious(name, lines, KERNEL_TROUBLE, tolerated));
    }
    return found;
  }

  /** @param {string} command @param {string[]} args @param {string} into */
  async #drain(command, args, into) {
    const text = await run(command, args);
    await appendFile(into, text);
    return text.split('\n');
  }

  /** @param {string} path */
  async #more(path) {
    const from = this.#seen.get(path) ?? 0;
    const bytes = await readFile(path);
    this.#seen.set(path, bytes.length);
    return withoutStraySteps(bytes.subarray(from).toString().split('\n'));
  }
}

const PANIC_ENDS = /Kernel Offset:/;

/**
 * Without what no CPU but the emulated one does to a guest's kernel. A single step that nobody
 * asked for: seen once, right after a cmpxchg16b, with flags (06380bc2) that no CPU has. The kernel
 * reports it, clears the flag and goes on. And a breakpoint that is met when it has been taken away
 * again: the kernel panics, seen once in a guest that booted. Only whole reports are left out.
 * @param {string[]} lines
 */
export function withoutStraySteps(lines) {
  const kept = [];
  for (let i = 0; i < lines.length; i++) {
    const end = isStrayStep(lines, i) ? endOfReport(lines, i) : endOfStrayBreakpoint(lines, i);
    if (end === undefined) kept.push(lines[i] ?? '');
    else i = end;
  }
  return kept;
}

/** @param {string[]} lines @param {number} begin @returns {number | undefined} its last line */
function endOfStrayBreakpoint(lines, begin) {
  if (!STRAY_BREAKPOINT.test(lines[begin] ?? '')) return undefined;
  const end = lines.findIndex((line, i) => i > begin && PANIC_ENDS.test(line));
  return end < 0 ? undefined : end;
}

/** @param {string[]} lines @param {number} i */
function isStrayStep(lines, i) {
  return lines[i]?.includes('[ cut here ]') && / exc_debug_kernel\+/.test(lines[i + 1] ?? '');
}

/** @param {string[]} lines @param {number} begin @returns {number | undefined} its last line */
function endOfReport(lines, begin) {
  const next = lines.findIndex((line, i) => i > begin && /\[ (cut here|end trace)/.test(line));
  return lines[next]?.includes('[ end trace') ? next : undefined;
}

/**
 * @param {string} log its name
 * @param {string[]} lines
 * @param {RegExp} trouble
 * @param {RegExp} [tolerated]
 */
function suspicious(log, lines, trouble, tolerated) {
  const bad = lines.filter((line) => trouble.test(line) && !tolerated?.test(line));
  return bad.map((line) => `${log}: ${line}`);
}

/** @returns {Promise<string[]>} dom0's event channels that lead into a guest */
async function guestPorts() {
  const ports = await run('/usr/lib/xen-4.20/bin/lsevtchn', ['0']);
  return ports.split('\n').filter((line) => /Interdomain.*Remote Domain [1-9]/.test(line));
}

/** @returns {Promise<number>} domains besides dom0; a dying one means its pages are still mapped */
async function guestDomains() {
  return (await run('xl', ['list'])).trim().split('\n').length - 2;
}

/**
 * @param {Daemon} daemon
 * @returns {Promise<string[]>} what it still holds of guests that are gone
 */
async function heldBy(daemon) {
  const { engine } = await quickStats();
  const held = [];
  if (engine.mappedPages !== 0) held.push(`stats: mappedPages ${engine.mappedPages}`);
  if (engine.boundPorts !== 0) held.push(`stats: boundPorts ${engine.boundPorts}`);
  const mappings = await daemon.grantMappings();
  if (mappings > 0) held.push(`${mappings} gntdev mappings`);
  const files = (await daemon.openFiles()).filter((path) => TARGETS.test(path));
  if (files.length > 0) held.push(`open targets ${files}`);
  return held;
}

/**
 * @param {import('./daemon.mjs').Footprint} before
 * @param {import('./daemon.mjs').Footprint} after
 * @returns {string[]} what the daemon has more of than it should
 */
function growth(before, after) {
  const grown = [];
  for (const what of /** @type {const} */ (['descriptors', 'threads'])) {
    if (after[what] > before[what]) grown.push(`${what}: ${before[what]}, now ${after[what]}`);
  }
  const rss = after.rssBytes - before.rssBytes;
  if (rss > RSS_GROWTH_MAX) grown.push(`RSS: ${rss >> 20} MiB more`);
  return grown;
}

/**
 * Rejects when guests that are gone left something behind, or the daemon grew.
 * @param {import('./daemon.mjs').Footprint | undefined} before of the same daemon when it was new
 */
export async function assertNothingIsLeft(before) {
  const daemon = Daemon.current;
  /** @type {string[]} */
  let left = [];
  const look = async () => {
    const domains = await guestDomains();
    left = domains > 0 ? [`${domains} domains`] : [];
    left.push(...(await guestPorts()));
    if (daemon && !daemon.ended) {
      left.push(...(await heldBy(daemon)));
      if (before) left.push(...growth(before, await daemon.footprint()));
    }
    return left.length === 0;
  };
  await waitFor('release', look, { timeoutMs: RELEASE_MS, everyMs: 1000 }).catch((error) => {
    throw left.length > 0 ? new Error(`left behind: ${left.join('; ')}`) : error;
  });
}

/** @returns {Promise<string[]>} ends of the logs, for the report of a failure */
export async function evidence() {
  const files = [DAEMON_LOG];
  for (const name of await readdir(LOGS)) {
    const path = `${LOGS}/${name}`;
    const recent = Date.now() - (await stat(path)).mtimeMs < 60_000;
    if (name.startsWith('guest-') && recent) files.push(path);
  }
  const tails = await Promise.all(files.map((path) => tail(path, 15)));
  return [...tails.flat(), '--- ringdisk stats', ...(await counters())];
}

/** @returns {Promise<string[]>} what the daemon counts now, if it still answers */
async function counters() {
  try {
    const { engine, vbds } = await quickStats();
    return [engine, ...vbds].map((value) => JSON.stringify(value));
  } catch (error) {
    return [String(error)];
  }
}

/** @param {string} path @param {number} count */
async function tail(path, count) {
  const text = await readFile(path, 'utf8').catch(() => '');
  const lines = text.trimEnd().split(/\r?\n/).slice(-count);
  return [`--- ${path.replace('/host/', '')}`, ...lines];
}
