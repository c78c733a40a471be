// SPDX-License-Identifier: Apache-2.0
// `ringdisk volume job`: replication that the volume manager does by itself.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { WireJob } from '../replication/wire.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { rateOf } from './rate.ts';
import { collect } from './repeated.ts';
import { formatJob, formatJobs, progressLine } from './volume_job_text.ts';
import {
  addManagerOptions,
  type ManageClient,
  type ManagerOptions,
  withManager,
} from './with_manager.ts';

const JOB_ARGUMENT = 'POOL/NAME, such as tank/nightly; the pool is the one whose volumes it sends';

const EXAMPLES = `
A job takes snapshots of volumes, sends them to another pool, here or on another host, and destroys
those that nobody wants to keep any more. The volumes there are replicas, with the same names and
ids: a guest may start on one, and from then on the job refuses to write to it.

Example:
  ringdisk volume job add tank/hourly --to backup --schedule 'every 1h'
  ringdisk volume job add tank/nightly --volume vm1 --to backup --via 'ssh other ringdisk' \\
    --schedule '30 2 * * *' --keep last=4,daily=7 --keep-there daily=30,monthly=12 --limit 50M
  ringdisk volume job run tank/nightly`;

export function addJobs(parent: Command): void {
  const command = parent
    .command('job')
    .description('have volumes replicated, and their snapshots taken and destroyed, by a schedule')
    .addHelpText('after', EXAMPLES);
  addAdd(command);
  addList(command);
  addShow(command);
  addRun(command);
  addStop(command);
  addAllow(command);
  addRemove(command);
}

interface AddOptions extends ManagerOptions {
  volume?: string[];
  to?: string;
  via?: string;
  schedule?: string;
  keep?: string;
  keepThere?: string;
  limit?: string;
  replace?: boolean;
}

const ADD_HELP = `
--keep names what stays: so many of the newest (last), and the newest of each of so many hours,
days, weeks, months and years (UTC) that have one. The newest snapshot that both sides have always
stays, and so does every one that the job has not made. Snapshots of a volume that was destroyed
stay for a week.

--via is run without a shell: its words are what stands between blanks, and "volume receive ..." and
the like are put behind them. ssh must get in without a password, and the manager's unit must be
given the network (README, Replication).`;

function addAdd(parent: Command): void {
  const command = parent
    .command('add')
    .description('add a job, or change one')
    .argument('<job>', JOB_ARGUMENT)
    .option('--volume <key>', 'only this one, may be repeated (default: all of the pool)', collect)
    .option('--to <pool>', 'where replicas are kept; missing: snapshots are only taken')
    .option('--via <command>', 'that pool is on another host, where this command runs ringdisk')
    .option('--schedule <when>', 'every 15m, @daily or "30 2 * * *"; missing: by job run only')
    .option('--keep <what>', 'default: last=4,hourly=24,daily=7,weekly=4; or all')
    .option('--keep-there <what>', 'at the destination (default: as --keep)')
    .option('--limit <rate>', 'bytes a second, such as 20M')
    .option('--replace', 'change the job of that name')
    .addHelpText('after', ADD_HELP);
  addManagerOptions(command).action(async (job: string, options: AddOptions) => {
    const { volume, schedule, keep, keepThere, limit, replace } = options;
    const rate = limit === undefined ? 0 : rateOf(limit);
    const wish = { job, ...keysOf(job, volume), ...destinationOf(options), schedule, keep };
    const more = { keepThere, replace, ...(rate > 0 && { rate }) };
    const result = await withManager(options, (client) =>
      client.call('addJob', { ...wish, ...more }),
    );
    for (const warning of result.warnings) process.stderr.write(`ringdisk: ${warning}\n`);
    printResult('volume job add', options, result, () => formatJob(result.job));
  });
}

/** "vm1", or in full "tank/vm1". */
function keysOf(job: string, volumes: string[] | undefined): { volumes?: string[] } {
  if (!volumes) return {};
  const [pool] = job.split('/');
  const keys = volumes.map((text) => {
    const [, of, key] = /^(?:([^/]+)\/)?([^/@]+)$/.exec(text) ?? [];
    if (key !== undefined && (of ?? pool) === pool) return key;
    throw new UsageError(`${JSON.stringify(text)} is no volume of the pool ${pool}.`);
  });
  return { volumes: keys };
}

function destinationOf({ to, via }: AddOptions): { to?: { pool: string; via?: string[] } } {
  if (to === undefined) {
    if (via !== undefined) throw new UsageError('--via wants --to: the pool on the other host.');
    return {};
  }
  const words = via?.trim().split(/\s+/);
  if (words?.[0] === '') throw new UsageError('--via is empty.');
  return { to: { pool: to, ...(words && { via: words }) } };
}

function addList(parent: Command): void {
  const command = parent
    .command('list')
    .description('list jobs, and how their last runs went')
    .addHelpText('after', '\nWhat cannot be told is said, and the exit status is then 1.');
  addManagerOptions(command).action(async (options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('listJobs', {}));
    const { jobs, unreadable } = result;
    printResult('volume job list', options, result, () => {
      if (jobs.length > 0) return formatJobs(jobs);
      return unreadable.length > 0 ? '' : 'There are no jobs.';
    });
    for (const { pool, reason } of unreadable) {
      const what = pool === undefined ? 'jobs' : `jobs of ${pool}`;
      process.stderr.write(`ringdisk: not all ${what} can be told: ${reason}\n`);
      process.exitCode = 1;
    }
  });
}

function addShow(parent: Command): void {
  const command = parent
    .command('show')
    .description('show a job, how far its run is, and how the last one went')
    .argument('<job>', JOB_ARGUMENT);
  addManagerOptions(command).action(async (job: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('showJob', { job }));
    printResult('volume job show', options, result, () => formatJob(result.job));
  });
}

interface RunOptions extends ManagerOptions {
  force?: boolean;
  background?: boolean;
}

function addRun(parent: Command): void {
  const command = parent
    .command('run')
    .description('run a job now, and wait for its end')
    .argument('<job>', JOB_ARGUMENT)
    .option('--background', 'do not wait')
    .option('--force', 'forget what was written to the replicas, and snapshots they have alone')
    .addHelpText('after', '\nInterrupted, this command ends, and the job goes on: see job stop.');
  addManagerOptions(command).action(async (job: string, options: RunOptions) => {
    const { force, background } = options;
    const result = await withManager(options, async (client) => {
      const begun = await client.call('runJob', { job, force });
      return background ? begun : { job: await untilEnded(client, job, options) };
    });
    printResult('volume job run', options, result, () => formatJob(result.job));
    if (!background && result.job.last?.ok !== true) process.exitCode = 1;
  });
}

const LOOK_MS = 500;

async function untilEnded(
  client: ManageClient,
  job: string,
  { json }: RunOptions,
): Promise<WireJob> {
  const isShown = !json && process.stderr.isTTY === true;
  for (;;) {
    const { job: now } = await client.call('showJob', { job });
    if (isShown) process.stderr.write(`\r\x1b[K${progressLine(now)}`);
    if (now.state === 'idle') {
      if (isShown) process.stderr.write('\r\x1b[K');
      return now;
    }
    await sleep(LOOK_MS);
  }
}

function addStop(parent: Command): void {
  const command = parent
    .command('stop')
    .description('end the run of a job; what has arrived stays, and is gone on with next time')
    .argument('<job>', JOB_ARGUMENT);
  addManagerOptions(command).action(async (job: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('stopJob', { job }));
    printResult('volume job stop', options, result, () => formatJob(result.job));
  });
}

const ALLOW_HELP = `
A job is kept in the pool whose volumes it sends. One that has come with its pool from another host
is not run here, since it may run any command, until it is allowed: look at it with job show.`;

function addAllow(parent: Command): void {
  const command = parent
    .command('allow')
    .description('have a job run on this host which was added on another one')
    .argument('<job>', JOB_ARGUMENT)
    .addHelpText('after', ALLOW_HELP);
  addManagerOptions(command).action(async (job: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('allowJob', { job }));
    printResult('volume job allow', options, result, () => formatJob(result.job));
  });
}

function addRemove(parent: Command): void {
  const command = parent
    .command('remove')
    .description('remove a job; replicas stay')
    .argument('<job>', JOB_ARGUMENT)
    .option('--snapshots', 'destroy the snapshots that it has made, but for those of replicas');
  addManagerOptions(command).action(
    async (job: string, options: ManagerOptions & { snapshots?: boolean }) => {
      const { snapshots } = options;
      const result = await withManager(options, (client) =>
        client.call('removeJob', { job, snapshots }),
      );
      printResult('volume job remove', options, result, () => {
        const { left, destroyed } = result;
        if (snapshots) return `${job} is removed, and ${destroyed} snapshots with it.`;
        return `${job} is removed; ${left} snapshots that it has made stay.`;
      });
    },
  );
}
