// SPDX-License-Identifier: Apache-2.0
// What the demo prints: progress while it runs, a summary at its end.
import type { FrontendAgreement } from '../platform/loopback_frontend.ts';
import { faultOf, type PhaseResult } from './demo_phases.ts';
import { type Column, formatFields, formatTable } from './table.ts';
import { formatBytes, formatCount, formatLatency } from './units.ts';

export interface DemoOutcome {
  image: string;
  negotiated: FrontendAgreement;
  phases: PhaseResult[];
  /** Bytes of the host's disk that the image took before and after the discard. */
  allocatedBefore: number;
  allocatedAfter: number;
  seconds: number;
}

const MIB = 1024 * 1024;
const COLUMNS: Column<PhaseResult>[] = [
  { title: 'PHASE', value: (phase) => phase.title },
  { title: 'REQUESTS', right: true, value: ({ result }) => formatCount(result.requests) },
  { title: 'IOPS', right: true, value: ({ result }) => rate(result.requests, result.seconds) },
  { title: 'MIB/S', right: true, value: ({ result }) => rate(result.bytes / MIB, result.seconds) },
  { title: 'P50', right: true, value: ({ result }) => formatLatency(result.latencyUs.p50) },
  { title: 'P90', right: true, value: ({ result }) => formatLatency(result.latencyUs.p90) },
  { title: 'P99', right: true, value: ({ result }) => formatLatency(result.latencyUs.p99) },
  { title: 'P99.9', right: true, value: ({ result }) => formatLatency(result.latencyUs.p999) },
];

/** The last thing the demo prints. */
export function formatOutcome(outcome: DemoOutcome): string {
  return [
    formatFields(negotiatedFields(outcome.negotiated)),
    formatTable(COLUMNS, outcome.phases),
    formatFields([
      ['verified', verification(outcome.phases)],
      ['discard gave back', discardText(outcome)],
      ['time', `${outcome.seconds.toFixed(1)} s`],
    ]),
  ].join('\n\n');
}

function negotiatedFields(agreed: FrontendAgreement): [string, string][] {
  const segments = agreed.indirectSegments;
  return [
    ['queues', String(agreed.queues)],
    ['ring', `${2 ** agreed.ringPageOrder} pages per queue`],
    ['indirect segments', `${segments} (requests of up to ${formatBytes(segments * 4096)})`],
    ['grants', agreed.persistentGrants ? 'persistent' : 'mapped or copied per request'],
    ['flush, discard', `${yesNo(agreed.flush)}, ${yesNo(agreed.discard)}`],
    ['disk', `${formatBytes(agreed.capacity)} in blocks of ${agreed.logicalBlockBytes} B`],
  ];
}

function verification(phases: PhaseResult[]): string {
  const faults = phases.map(faultOf).filter((fault) => fault !== undefined);
  if (faults.length > 0) return `FAILED\n  ${faults.join('\n  ')}`;
  const checked = phases.filter((phase) => phase.operation === 'verify');
  const bytes = checked.reduce((sum, phase) => sum + phase.result.bytes, 0);
  return `${formatBytes(bytes)} read back, every block as written`;
}

function discardText({ allocatedBefore, allocatedAfter }: DemoOutcome): string {
  const freed = formatBytes(allocatedBefore - allocatedAfter);
  const now = formatBytes(allocatedAfter);
  return `${freed} of the host's disk (${formatBytes(allocatedBefore)} before, ${now} after)`;
}

function rate(amount: number, seconds: number): string {
  if (amount === 0 || seconds === 0) return '-';
  return formatCount(amount / seconds);
}

function yesNo(flag: boolean): string {
  return flag ? 'yes' : 'no';
}

/** One line that is drawn over itself on a terminal; elsewhere one line per phase. */
export class ProgressLine {
  readonly #redraw = process.stdout.isTTY === true;
  readonly #silent: boolean;

  constructor(silent: boolean) {
    this.#silent = silent;
  }

  /** Of a phase under way. */
  update(title: string, bytes: number, of: number | undefined, seconds: number): void {
    if (this.#silent || !this.#redraw) return;
    const amount = of ? `${Math.floor((100 * bytes) / of)} %` : `${seconds.toFixed(1)} s`;
    this.#draw(`  ${title.padEnd(20)} ${amount.padStart(7)}  ${formatBytes(bytes)}`);
  }

  /** A phase has ended, or something else is worth a line. */
  finish(text: string): void {
    if (this.#silent) return;
    if (this.#redraw) this.#draw(`${text}\n`);
    else process.stdout.write(`${text}\n`);
  }

  #draw(text: string): void {
    process.stdout.write(`\r\u001b[K${text}`);
  }
}
