// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { RingdiskError } from '../errors.ts';
import { Folder, type Profile, unknownShare } from '../flamegraph/fold.ts';
import { renderHtml } from '../flamegraph/html.ts';
import { FREQUENCY_HZ, record } from '../flamegraph/record.ts';
import { renderSvg } from '../flamegraph/svg.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { formatCount } from './units.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

interface FlamegraphOptions extends DaemonOptions {
  seconds: string;
  vbd?: string;
  output: string;
}

const SECONDS_MAX = 600;
const HELP = `
Each column is a stack, as wide as the share of time the daemon's threads spent in it; what they
do in the kernel is part of it. Needs perf, and root. Ctrl-C ends the recording sooner. Frames
without a name are red, and their share is printed: those of libc go away with its debug symbols
(libc6-dbg).
--vbd records the reactors that serve this disk; other disks of theirs are in it too.
A page (.html) can be searched and zoomed into.

Example:
  ringdisk flamegraph --seconds 30 --output /tmp/ringdisk.svg`;

export function addFlamegraph(program: Command): void {
  const command = program
    .command('flamegraph')
    .description('draw where the daemon spends its time')
    .option('--seconds <n>', `how long to record, at most ${SECONDS_MAX}`, '10')
    .option('--vbd <vbd>', 'only the reactors of this disk: 3/xvda, 3/51712 or vbd3/3/51712')
    .option('--output <file>', 'the picture: .svg, or .html', 'ringdisk.svg')
    .addHelpText('after', HELP);
  addDaemonOptions(command).action(flamegraph);
}

async function flamegraph(options: FlamegraphOptions): Promise<void> {
  const seconds = recordingSeconds(options.seconds);
  const render = rendererOf(options.output);
  const { pid, reactors } = await withDaemon(options, async (client) => ({
    pid: (await client.call('version', {})).pid,
    reactors: options.vbd && (await client.call('show', { vbd: options.vbd })).vbd.reactors,
  }));
  const tids = reactors ? reactorThreads(pid, reactors) : undefined;
  if (options.vbd && !tids?.length) {
    throw new RingdiskError('VBD_NOT_READY', `${options.vbd} is not connected: nothing serves it.`);
  }
  const folder = new Folder();
  await record(pid, tids, seconds, (line) => folder.add(line));
  const profile = folder.profile();
  const title = options.vbd ? `ringdisk: the reactors of ${options.vbd}` : 'ringdisk';
  writeFileSync(options.output, render(profile.root, title, summaryOf(profile, seconds)));
  const { root, samples, frames, unknownIn } = profile;
  const threads = Object.fromEntries(root.children.map(({ name, value }) => [name, value]));
  const output = path.resolve(options.output);
  const result = {
    output,
    samples,
    frames,
    unknownShare: unknownShare(profile),
    unknownIn,
    threads,
  };
  printResult('flamegraph', options, result, () => report(profile, seconds, options.output));
}

function recordingSeconds(given: string): number {
  const seconds = Number(given);
  if (seconds > 0 && seconds <= SECONDS_MAX) return seconds;
  throw new UsageError(`--seconds takes more than 0 and at most ${SECONDS_MAX}, not "${given}".`);
}

function rendererOf(output: string): typeof renderSvg {
  if (output.endsWith('.svg')) return renderSvg;
  if (output.endsWith('.html')) return renderHtml;
  throw new UsageError(`--output takes a name that ends in .svg or .html, not "${output}".`);
}

/** Ids of the threads that are these reactors. */
function reactorThreads(pid: number, reactors: number[]): number[] {
  const names = new Set(reactors.map((index) => `rd-reactor-${index}`));
  const tasks = `/proc/${pid}/task`;
  const isOne = (tid: string) => names.has(readFileSync(`${tasks}/${tid}/comm`, 'utf8').trim());
  return readdirSync(tasks).filter(isOne).map(Number);
}

function summaryOf(profile: Profile, seconds: number): string {
  const samples = `${formatCount(profile.samples)} samples in ${seconds} s at ${FREQUENCY_HZ} Hz`;
  const unknown = `${percent(unknownShare(profile))} of ${formatCount(profile.frames)}`;
  return `${samples}; unknown frames: ${unknown}`;
}

function report(profile: Profile, seconds: number, output: string): string {
  const where = profile.unknownIn
    .slice(0, 3)
    .map(([file, frames]) => `  ${percent(frames / profile.frames)} in ${file}`);
  return [`${output}: ${summaryOf(profile, seconds)}`, ...where].join('\n');
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
