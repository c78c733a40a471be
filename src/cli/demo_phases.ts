// SPDX-License-Identifier: Apache-2.0
// What the demo's guest does with its disk.
import type { LoopbackResult, LoopbackWorkload } from '../datapath/binding.ts';
import type { FrontendAgreement } from '../platform/loopback_frontend.ts';

const MIB = 1024 * 1024;
export const DISK_BYTES = 1024 * MIB;
/** Written, verified, discarded. */
const REGION_BYTES = 256 * MIB;
const SEED = 20;
const RANDOM_MS = 2000;
/** Requests in flight per queue: enough to keep a disk busy, few enough for honest latencies. */
const DEPTH_LARGE = 2;
const DEPTH_SMALL = 8;

export interface Phase {
  title: string;
  workload: LoopbackWorkload;
  /** What the progress runs up to: bytes, or undefined where time is the end. */
  bytes?: number;
}

export interface PhaseResult {
  title: string;
  operation: LoopbackWorkload['operation'];
  blockBytes: number;
  result: LoopbackResult;
}

/** In their order. The random writes keep the pattern, so that the last verify covers them too. */
export function demoPhases(agreed: FrontendAgreement): Phase[] {
  const largest = Math.min(MIB, Math.max(agreed.indirectSegments, 11) * 4096);
  const whole = sizedWorkload(largest, DEPTH_LARGE);
  const random = { ...whole, blockBytes: 4096, depth: DEPTH_SMALL, milliseconds: RANDOM_MS };
  const { bytes: _, ...untilTime } = random;
  return [
    { title: 'sequential write', workload: { ...whole, operation: 'write' }, bytes: REGION_BYTES },
    { title: 'verify', workload: { ...whole, operation: 'verify' }, bytes: REGION_BYTES },
    { title: 'random read 4 KiB', workload: { ...untilTime, operation: 'randread' } },
    { title: 'random write 4 KiB', workload: { ...untilTime, operation: 'randwrite' } },
    ...(agreed.flush ? [flushPhase(whole)] : []),
    { title: 'verify again', workload: { ...whole, operation: 'verify' }, bytes: REGION_BYTES },
  ];
}

export function discardPhase(agreed: FrontendAgreement): Phase {
  const largest = Math.min(MIB, Math.max(agreed.indirectSegments, 11) * 4096);
  const workload = { ...sizedWorkload(largest, DEPTH_LARGE), operation: 'discard' } as const;
  return { title: 'discard', workload, bytes: REGION_BYTES };
}

function flushPhase(whole: Omit<LoopbackWorkload, 'operation'>): Phase {
  // Enough of them for a latency; each waits for the medium.
  const workload = { ...whole, operation: 'flush', depth: 1, milliseconds: 500 } as const;
  return { title: 'flush', workload };
}

function sizedWorkload(blockBytes: number, depth: number): Omit<LoopbackWorkload, 'operation'> {
  const length = REGION_BYTES - (REGION_BYTES % blockBytes);
  return { blockBytes, depth, offset: 0, length, bytes: length, seed: SEED };
}

/** What went wrong in a phase, in words; undefined: nothing. */
export function faultOf({ title, result }: PhaseResult): string | undefined {
  const { errors, mismatches } = result;
  if (errors === 0 && mismatches === 0) return undefined;
  return `${title}: ${errors} requests failed, ${mismatches} blocks differ from what was written`;
}
