// SPDX-License-Identifier: Apache-2.0
// The course of `ringdisk demo`.
import { createLogger } from '../log.ts';
import type { LoopbackFrontend } from '../platform/loopback_frontend.ts';
import { type DemoMachine, startDemoMachine } from './demo_machine.ts';
import type { Phase, PhaseResult } from './demo_phases.ts';
import { DISK_BYTES, demoPhases, discardPhase, faultOf } from './demo_phases.ts';
import { type DemoOutcome, formatOutcome, ProgressLine } from './demo_report.ts';
import { EXIT_CODE } from './exit_code.ts';
import { type OutputOptions, printResult } from './output.ts';
import { formatBytes, formatCount } from './units.ts';

const PROGRESS_MS = 100;
const WISHES = { queues: 4, ringPageOrder: 4, indirectSegments: 256, persistentGrants: true };

/** Prints as it goes; sets the exit status. */
export async function demo(options: OutputOptions): Promise<void> {
  const progress = new ProgressLine(options.json === true);
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  let machine: DemoMachine | undefined;
  try {
    progress.finish('A guest and its disk, without a hypervisor: the loopback machine.\n');
    machine = await startDemoMachine(DISK_BYTES, createLogger({ level: 'warn' }));
    const outcome = await runDemo(machine, progress, interrupt.signal);
    if (!outcome) return;
    printResult('demo', options, outcome, () => `\n${formatOutcome(outcome)}`);
    if (outcome.phases.some((phase) => faultOf(phase))) process.exitCode = EXIT_CODE.error;
  } finally {
    await machine?.close();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    if (interrupt.signal.aborted) {
      progress.finish('Interrupted; everything is removed.');
      process.exitCode = EXIT_CODE.interrupted;
    }
  }
}

/** Undefined: interrupted. */
async function runDemo(
  machine: DemoMachine,
  progress: ProgressLine,
  signal: AbortSignal,
): Promise<DemoOutcome | undefined> {
  const started = performance.now();
  const { frontend, image } = machine;
  const negotiated = await frontend.connect(WISHES);
  progress.finish(`  connected: ${image}, ${formatBytes(negotiated.capacity)}`);
  const phases: PhaseResult[] = [];
  const run = async (phase: Phase) => {
    if (!signal.aborted) phases.push(await runPhase(frontend, phase, progress, signal));
  };
  for (const phase of demoPhases(negotiated)) await run(phase);
  const allocatedBefore = machine.allocatedBytes();
  if (negotiated.discard) await run(discardPhase(negotiated));
  if (signal.aborted) return undefined;
  const allocatedAfter = machine.allocatedBytes();
  const seconds = (performance.now() - started) / 1000;
  return { image, negotiated, phases, allocatedBefore, allocatedAfter, seconds };
}

async function runPhase(
  frontend: LoopbackFrontend,
  phase: Phase,
  progress: ProgressLine,
  signal: AbortSignal,
): Promise<PhaseResult> {
  const { title, workload } = phase;
  const started = performance.now();
  const timer = setInterval(() => {
    const seconds = (performance.now() - started) / 1000;
    progress.update(title, frontend.progress().bytes, phase.bytes, seconds);
  }, PROGRESS_MS);
  const cancel = () => frontend.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const result = await frontend.run(workload);
    const { requests, bytes, seconds } = result;
    const amount = bytes > 0 ? formatBytes(bytes) : `${formatCount(requests)} requests`;
    progress.finish(`  ${title.padEnd(20)} ${amount.padStart(12)} in ${seconds.toFixed(2)} s`);
    return { title, operation: workload.operation, blockBytes: workload.blockBytes, result };
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', cancel);
  }
}
