// SPDX-License-Identifier: Apache-2.0
// From the manager's control socket to its jobs.
import type { HandlersOf } from '../control/method_table.ts';
import type { Context } from '../volume/context.ts';
import { ManagerError, type VolumeManager } from '../volume/manager_types.ts';
import type { AddJob } from './edit_jobs.ts';
import { readHoldings, toHeldVolume } from './holdings.ts';
import type { Jobs } from './jobs.ts';
import { label } from './labels.ts';
import { type JOB_METHODS, toWireJob } from './wire.ts';

interface Services {
  context: Context;
  manager: VolumeManager;
  jobs: Jobs;
}

export function jobHandlers({ context, manager, jobs }: Services): HandlersOf<typeof JOB_METHODS> {
  return {
    addJob: async ({ job, ...wish }) => {
      const { info, warnings } = await jobs.add({ ...given(wish), ...split(job) } as AddJob);
      return { job: toWireJob(info), warnings };
    },
    listJobs: async () => {
      const { jobs: all, unreadable } = await jobs.list();
      return { jobs: all.map(toWireJob), unreadable };
    },
    showJob: async ({ job }) => ({ job: toWireJob(await jobs.show(job)) }),
    runJob: async ({ job, force = false }) => ({ job: toWireJob(await jobs.run(job, force)) }),
    allowJob: async ({ job }) => ({ job: toWireJob(await jobs.allow(job)) }),
    stopJob: async ({ job }) => ({ job: toWireJob(await jobs.stop(job)) }),
    removeJob: ({ job, snapshots = false }) => jobs.remove(job, snapshots),
    receiving: async ({ pool }) => {
      const info = await manager.statPool(pool);
      return { volumes: (await readHoldings(context, info.pool)).volumes.map(toHeldVolume) };
    },
    labelReplica: async ({ pool, ...wish }) => {
      const info = await manager.statPool(pool);
      await label(context, info.pool, wish);
      return {};
    },
  };
}

/** What is undefined was not given. */
function given<T extends object>(value: T): object {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined));
}

function split(job: string): { pool: string; name: string } {
  const [pool = '', name = '', ...more] = job.split('/');
  if (name !== '' && more.length === 0) return { pool, name };
  throw new ManagerError(
    'JOB_INVALID',
    `${JSON.stringify(job)} is no name of a job: POOL/NAME, such as tank/nightly`,
  );
}
