// SPDX-License-Identifier: Apache-2.0
// A pool that is there: its disks changed, looked through, trimmed.
import type { PoolRow } from '../zfs/zpool.ts';
import type { Context } from './context.ts';
import { Disks } from './disks.ts';
import { explained } from './failures.ts';
import { type ExpandPool, ManagerError, type PoolStatus } from './manager_types.ts';
import { memberName } from './members.ts';
import { toStatus } from './pool_health.ts';
import { allDisks, vdevWords } from './pool_plan.ts';
import { needPool, poolInfo } from './pools.ts';
import { topUp } from './reserve.ts';

export async function poolStatus(context: Context, pool: string): Promise<PoolStatus> {
  return statusOf(context, await needPool(context, pool));
}

export async function statusOf(context: Context, row: PoolRow): Promise<PoolStatus> {
  const report = await explained('pool', `the status of ${row.name} cannot be read`, () =>
    context.zpool.status(row.name),
  );
  return toStatus(await poolInfo(context, row), report);
}

export async function expandPool(
  context: Context,
  pool: string,
  change: ExpandPool,
): Promise<PoolStatus> {
  const { name } = await needPool(context, pool);
  return context.alone(name, async () => {
    for (const args of await changeArguments(context, name, change))
      await zpool(context, name, args);
    await topUp(context.zfs, name).catch((error) =>
      context.log.warn({ err: error, pool: name }, 'the reserve has not grown with the pool'),
    );
    return poolStatus(context, name);
  });
}

async function changeArguments(
  context: Context,
  pool: string,
  change: ExpandPool,
): Promise<string[][]> {
  const disks = new Disks(context.run);
  const ready = async (disk: string, wipe = false) => {
    const name = await disks.stableName(disk);
    await disks.look(name);
    await disks.prepare(name, wipe);
    return name;
  };
  switch (change.action) {
    case 'add': {
      const { action: _, wipe, ...wish } = change;
      for (const disk of allDisks(wish)) await ready(disk, wipe);
      const ashift = await ashiftOf(context, pool);
      return [['add', '-o', `ashift=${ashift}`, pool, ...vdevWords(wish)]];
    }
    case 'replace': {
      const { disk, by, wipe } = change;
      const old = await memberName(context, pool, disk);
      return [['replace', pool, old, ...(by === undefined ? [] : [await ready(by, wipe)])]];
    }
    case 'attach': {
      const to = await memberName(context, pool, change.to);
      return [['attach', pool, to, await ready(change.disk, change.wipe)]];
    }
    case 'grow':
      return (await leafNames(context, pool)).map((disk) => ['online', '-e', pool, disk]);
    default:
      return [[change.action, pool, await memberName(context, pool, change.disk)]];
  }
}

/** What comes later has the same, or ZFS could not remove it again. */
async function ashiftOf(context: Context, pool: string): Promise<string> {
  const args = ['get', '-Hp', '-o', 'value', 'ashift', pool];
  const text = await explained('pool', `the pool ${pool} cannot be read`, () =>
    context.run('zpool', args),
  );
  const ashift = text.trim();
  return /^([9]|1[0-6])$/.test(ashift) ? ashift : '12';
}

async function leafNames(context: Context, pool: string): Promise<string[]> {
  const { vdevs } = await poolStatus(context, pool);
  const leaves = (list: PoolStatus['vdevs']['data']): string[] =>
    list.flatMap(({ name, children }) => (children.length > 0 ? leaves(children) : [name]));
  return leaves([...vdevs.data, ...vdevs.special, ...vdevs.log]);
}

export async function scrubPool(
  context: Context,
  pool: string,
  action: 'start' | 'pause' | 'stop' = 'start',
): Promise<PoolStatus> {
  const { name } = await needPool(context, pool);
  const option = { start: [], pause: ['-p'], stop: ['-s'] }[action];
  await zpool(context, name, ['scrub', ...option, name]);
  return poolStatus(context, name);
}

export async function trimPool(
  context: Context,
  pool: string,
  action: 'start' | 'stop' = 'start',
): Promise<PoolStatus> {
  const { name } = await needPool(context, pool);
  await zpool(context, name, ['trim', ...(action === 'stop' ? ['-c'] : []), name]);
  return poolStatus(context, name);
}

export async function clearPool(
  context: Context,
  pool: string,
  disk?: string,
): Promise<PoolStatus> {
  const { name } = await needPool(context, pool);
  const member = disk === undefined ? [] : [await memberName(context, name, disk)];
  await zpool(context, name, ['clear', name, ...member]);
  return poolStatus(context, name);
}

async function zpool(context: Context, pool: string, args: string[]): Promise<void> {
  // Names of disks come from outside: none is an option.
  if (args.slice(1).some((word) => word.startsWith('-') && !/^-[oepsc]$/.test(word))) {
    throw new ManagerError('NAME_INVALID', 'a disk is given by its path, or its name in the pool');
  }
  await explained('pool', `zpool ${args[0]} of ${pool} failed`, () => context.zpool.change(args));
}
