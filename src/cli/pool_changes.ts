// SPDX-License-Identifier: Apache-2.0
// Commands for the disks of a pool that is there.
import { type Command, Option } from 'commander';
import type { ExpandPool } from '../volume/manager_types.ts';
import { addDiskOptions, type DiskOptions } from './pool_create.ts';
import { printStatus } from './pool_text.ts';
import { addManagerOptions, type ManagerOptions, withManager } from './with_manager.ts';

const POOL = 'its name or GUID';
const WIPE = 'destroy what old labels and file systems the new disk has';

type WipeOptions = ManagerOptions & { wipe?: boolean };

export function addPoolChanges(parent: Command): void {
  addAdd(parent);
  addReplace(parent);
  addAttach(parent);
  addOne(parent, 'detach', 'take a disk out of its mirror');
  addOne(parent, 'remove', 'take a spare, cache, log, or a whole mirror or single disk away');
  addOne(parent, 'offline', 'let the pool do without a disk for a while');
  addOne(parent, 'online', 'let it use that disk again');
  addGrow(parent);
  addScan(parent, 'scrub', 'read all that is in it, and mend what can be', [
    'start',
    'pause',
    'stop',
  ]);
  addScan(parent, 'trim', 'tell its disks what is free', ['start', 'stop']);
  addClear(parent);
}

async function change(
  verb: string,
  pool: string,
  wish: ExpandPool,
  options: ManagerOptions,
): Promise<void> {
  const { status } = await withManager(options, (client) =>
    client.call('expandPool', { pool, change: wish }),
  );
  printStatus(verb, options, status);
}

function addAdd(parent: Command): void {
  const command = parent
    .command('add')
    .description('make a pool larger by more groups of disks, or give it log, cache, spares')
    .argument('<pool>', POOL)
    .argument('[disks...]', 'of the new groups');
  addDiskOptions(command).option('--wipe', WIPE);
  addManagerOptions(command).action(
    (pool: string, disks: string[], options: WipeOptions & DiskOptions) => {
      const { layout, width, log, cache, special, spare, wipe } = options;
      const lists = Object.fromEntries(
        Object.entries({ width, log, cache, special, spare, wipe }).filter(
          ([, value]) => value !== undefined,
        ),
      );
      return change('add', pool, { action: 'add', layout, disks, ...lists }, options);
    },
  );
}

function addReplace(parent: Command): void {
  const command = parent
    .command('replace')
    .description('put another disk in the place of one; the pool goes on meanwhile')
    .argument('<pool>', POOL)
    .argument('<disk>', 'as pool status names it')
    .argument('[new]', 'missing: a new disk at the same path')
    .option('--wipe', WIPE);
  addManagerOptions(command).action(
    (pool: string, disk: string, by: string | undefined, options: WipeOptions) => {
      const { wipe = false } = options;
      const wish = { action: 'replace', disk, wipe, ...(by !== undefined && { by }) } as const;
      return change('replace', pool, wish, options);
    },
  );
}

function addAttach(parent: Command): void {
  const command = parent
    .command('attach')
    .description('give a disk or mirror one more mirror, or a raidz group one more disk (ZFS 2.3)')
    .argument('<pool>', POOL)
    .argument('<to>', 'a disk, or raidz1-0 and the like')
    .argument('<disk>', 'the new one')
    .option('--wipe', WIPE);
  addManagerOptions(command).action(
    (pool: string, to: string, disk: string, options: WipeOptions) => {
      const { wipe = false } = options;
      return change('attach', pool, { action: 'attach', to, disk, wipe }, options);
    },
  );
}

function addOne(
  parent: Command,
  action: 'detach' | 'remove' | 'offline' | 'online',
  description: string,
): void {
  const command = parent
    .command(action)
    .description(description)
    .argument('<pool>', POOL)
    .argument('<disk>', 'as pool status names it');
  addManagerOptions(command).action((pool: string, disk: string, options: ManagerOptions) =>
    change(action, pool, { action, disk }, options),
  );
}

function addGrow(parent: Command): void {
  const command = parent
    .command('grow')
    .description('use disks that have become larger')
    .argument('<pool>', POOL);
  addManagerOptions(command).action((pool: string, options: ManagerOptions) =>
    change('grow', pool, { action: 'grow' }, options),
  );
}

function addScan<const A extends readonly ('start' | 'pause' | 'stop')[]>(
  parent: Command,
  verb: 'scrub' | 'trim',
  description: string,
  actions: A,
): void {
  const command = parent
    .command(verb)
    .description(description)
    .argument('<pool>', POOL)
    .addOption(new Option('--action <action>').choices(actions).default('start'));
  addManagerOptions(command).action(
    async (pool: string, options: ManagerOptions & { action: 'start' | 'stop' }) => {
      const { action } = options;
      const { status } = await withManager(options, (client) =>
        verb === 'scrub'
          ? client.call('scrubPool', { pool, action })
          : client.call('trimPool', { pool, action }),
      );
      printStatus(verb, options, status);
    },
  );
}

function addClear(parent: Command): void {
  const command = parent
    .command('clear')
    .description('forget errors, and go on with disks that are back')
    .argument('<pool>', POOL)
    .argument('[disk]', 'of this one only');
  addManagerOptions(command).action(
    async (pool: string, disk: string | undefined, options: ManagerOptions) => {
      const { status } = await withManager(options, (client) =>
        client.call('clearPool', { pool, disk }),
      );
      printStatus('clear', options, status);
    },
  );
}
