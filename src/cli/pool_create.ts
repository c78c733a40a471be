// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { LAYOUTS, type Layout } from '../volume/manager_types.ts';
import { printResult } from './output.ts';
import { formatPlan, printPool } from './pool_text.ts';
import { collect } from './repeated.ts';
import { addManagerOptions, type ManagerOptions, withManager } from './with_manager.ts';

/** Of a pool's store. */
export interface StoreOptions {
  name?: string;
  description?: string;
  reserve?: number;
}

export interface DiskOptions {
  layout: Layout;
  width?: number;
  log?: string[];
  cache?: string[];
  special?: string[];
  spare?: string[];
}

interface CreateOptions extends ManagerOptions, StoreOptions, DiskOptions {
  ashift?: number;
  compression?: string;
  wipe?: boolean;
  dryRun?: boolean;
}

/** Disks and their roles, for commands that make or extend a pool. */
export function addDiskOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--layout <layout>', 'how disks stand in for each other')
        .choices(LAYOUTS)
        .default('stripe'),
    )
    .option('--width <n>', 'disks of one group (default: mirror 2, others all)', Number)
    .option('--log <disk>', 'for synchronous writes; several are mirrored', collect)
    .option('--cache <disk>', 'for reads; may be repeated', collect)
    .option('--special <disk>', 'for metadata; several are mirrored', collect)
    .option('--spare <disk>', 'takes the place of one that fails; may be repeated', collect);
}

export function addPoolCreate(parent: Command): void {
  const command = parent
    .command('create')
    .description('make a pool of disks')
    .argument('<pool>', 'its name')
    .argument('<disks...>', 'devices, files; with --dry-run also sizes, such as 8x10T');
  addDiskOptions(command)
    .option('--dry-run', 'only show what it would be: space, and what a failure costs')
    .option('--reserve <percent>', 'of its space that volumes never get (default: 20)', Number)
    .option('--ashift <n>', "the smallest block is 2^n bytes (default: 12, or the disks')", Number)
    .option('--compression <name>', 'as of ZFS (default: lz4)')
    .option('--name <text>', "the store's, for people")
    .option('--description <text>', "the store's, for people")
    .option('--wipe', 'destroy what old labels and file systems the disks have')
    .addHelpText(
      'after',
      '\nDisks that are in use are always refused.\n\nExample: before anything is bought\n' +
        '  ringdisk pool create tank --layout raidz2 8x10T --dry-run',
    );
  addManagerOptions(command).action(create);
}

async function create(pool: string, disks: string[], options: CreateOptions): Promise<void> {
  const { layout, width, log, cache, special, spare, ashift, reserve } = options;
  const wish = { layout, disks, width, log, cache, special, spare, ashift, reserve };
  if (options.dryRun) {
    const result = await withManager(options, (client) => client.call('planPool', wish));
    printResult('pool create', options, result, () => formatPlan(result.plan));
    return;
  }
  const { name, description, wipe, compression } = options;
  const result = await withManager(options, (client) =>
    client.call('createPool', { ...wish, pool, name, description, wipe, compression }),
  );
  printPool('create', options, result.pool);
}
