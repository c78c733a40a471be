// SPDX-License-Identifier: Apache-2.0
// One volume, brought up to date at the destination: step by step as plan.ts says, so that its
// snapshots are there one by one as they were taken.

import type { Destination } from './destination.ts';
import type { HeldVolume, Sent, SourceSnapshot, SourceVolume } from './holdings.ts';
import { type Job, jobId } from './job.ts';
import { nextStep, replicaOf, type Step } from './plan.ts';
import type { Progress } from './progress.ts';
import type { RunServices } from './run.ts';
import { estimate, readToken, resumeArguments, stepArguments, transfer } from './transfer.ts';

export interface Replication {
  job: Job;
  destination: Destination;
  volume: SourceVolume;
  held: HeldVolume[];
  force: boolean;
  signal: AbortSignal;
  progress: Progress;
  /** What has been sent is written down. */
  note(sent: Sent): Promise<void>;
}

/** Returns what the destination holds then. Throws where it cannot be brought up to date. */
export async function replicate(services: RunServices, wish: Replication): Promise<HeldVolume[]> {
  const { destination, volume, job } = wish;
  let { held } = wish;
  // Each step makes one snapshot arrive, or names one, or clears what was cut off.
  for (let steps = 0; steps < 3 * volume.snapshots.length + 3; steps++) {
    const step = nextStep({ source: volume, held, job: job.name, pool: destination.pool });
    if (step.do === 'nothing') return held;
    if (step.do === 'refuse') throw new Error(step.why);
    held = await take(services, { ...wish, held }, step);
  }
  throw new Error(`${destination.pool} does not keep what it is sent`);
}

type Action = Exclude<Step, { do: 'nothing' | 'refuse' }>;

async function take(services: RunServices, wish: Replication, step: Action): Promise<HeldVolume[]> {
  switch (step.do) {
    case 'label':
      await labelAs(wish, step.key, step.snapshot);
      return wish.destination.read();
    case 'resume':
      return resume(services, wish, step);
    case 'send':
      return send(services, wish, step);
  }
}

function labelAs(
  { destination, volume }: Replication,
  key: string,
  snapshot: SourceSnapshot,
): Promise<void> {
  const labels = { volume: volume.labels, snapshot: snapshot.labels };
  return destination.label(key, snapshot.name, labels);
}

async function send(
  services: RunServices,
  wish: Replication,
  { key, from, to }: Extract<Action, { do: 'send' }>,
): Promise<HeldVolume[]> {
  const { volume, job, held, progress, note } = wish;
  const done = from?.guid ?? volume.sent[job.name]?.done;
  await note({ begun: to.guid, ...(done !== undefined && { done }) });
  const args = stepArguments(volume, to, from);
  progress.step(to.name, await estimate(services.context, args));
  await move(services, wish, key, args);
  await note({ done: to.guid });
  return arrived(wish, held, key, to);
}

/** What the destination holds, without asking: ZFS names what comes whole by itself. */
function arrived(
  { volume, job }: Replication,
  held: HeldVolume[],
  key: string,
  to: SourceSnapshot,
): HeldVolume[] {
  const before = replicaOf(volume, held);
  const others = held.filter((one) => one !== before);
  const snapshots = [...(before?.snapshots ?? []), to];
  const { uuid } = volume;
  return [
    ...others,
    { key, ...(uuid !== undefined && { uuid }), replicaOf: jobId(job), arriving: false, snapshots },
  ];
}

async function resume(
  services: RunServices,
  wish: Replication,
  { key, token }: Extract<Action, { do: 'resume' }>,
): Promise<HeldVolume[]> {
  const { destination, volume, progress, note } = wish;
  const told = await readToken(services.context, token);
  if (!told) {
    services.log.info({ job: jobId(wish.job), volume: key }, 'what was cut off is sent anew');
    await destination.forget(key);
    return destination.read();
  }
  const to = volume.snapshots.find(({ guid }) => guid === told.toGuid);
  if (!to) {
    throw new Error(
      `what has begun to arrive at ${destination.pool}/${key} is no snapshot of it: ` +
        `ringdisk volume receive --abort ${destination.pool}/${key} forgets that`,
    );
  }
  progress.step(to.name, told.bytes);
  await move(services, wish, key, resumeArguments(token));
  await labelAs(wish, key, to);
  await note({ done: to.guid });
  return destination.read();
}

async function move(
  { start }: RunServices,
  { destination, job, force, signal, progress }: Replication,
  key: string,
  args: readonly string[],
): Promise<void> {
  const onBytes = (bytes: number) => progress.moved(bytes);
  try {
    const { rate } = job;
    await transfer(start, { destination, key, args, rate, force, signal, onBytes });
  } catch (error) {
    const { message } = error as Error;
    if (!/has been modified|does not;?\s+match incremental source/.test(message)) throw error;
    throw new Error(
      `${destination.pool}/${key} is not as it was left: somebody has written to it, taken or ` +
        `destroyed snapshots, or the volume was reverted. ringdisk volume job run ${jobId(job)} ` +
        '--force forgets all that it has and this one has not',
      { cause: error },
    );
  }
}
