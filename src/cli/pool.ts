// SPDX-License-Identifier: Apache-2.0
// `ringdisk pool`: pools of ZFS, by the volume manager.
import type { Command } from 'commander';
import { printResult } from './output.ts';
import { addArc } from './pool_arc.ts';
import { addPoolChanges } from './pool_changes.ts';
import { addPoolCreate, type StoreOptions } from './pool_create.ts';
import { formatHealth } from './pool_health_text.ts';
import { formatPools, printPool, printStatus } from './pool_text.ts';
import { collect } from './repeated.ts';
import { formatTable } from './table.ts';
import { addManagerOptions, type ManagerOptions, withManager } from './with_manager.ts';

const EXAMPLES = `
A pool that ringdisk uses has a store in it, <pool>/ringdisk, which holds the volumes.

Example:
  ringdisk pool create tank --layout mirror /dev/sdb /dev/sdc --dry-run
  ringdisk pool create tank --layout mirror /dev/sdb /dev/sdc
  ringdisk pool status tank`;

export function addPool(program: Command): void {
  const command = program
    .command('pool')
    .description('make, adopt, look at and change pools of ZFS')
    .addHelpText('after', EXAMPLES);
  addPoolCreate(command);
  addAdopt(command);
  addList(command);
  addStatus(command);
  addHealth(command);
  addImport(command);
  addExport(command);
  addDestroy(command);
  addReserve(command);
  addArc(command);
  addPoolChanges(command);
}

function addAdopt(parent: Command): void {
  const command = parent
    .command('adopt')
    .description('make a store in a pool that is there; the pool itself is not changed')
    .argument('<pool>', 'an imported pool')
    .option('--name <text>', "the store's, for people")
    .option('--description <text>', "the store's, for people")
    .option('--reserve <percent>', 'of its space that volumes never get (default: 0)', Number);
  addManagerOptions(command).action(
    async (
      pool: string,
      { name, description, reserve, ...options }: ManagerOptions & StoreOptions,
    ) => {
      const result = await withManager(options, (client) =>
        client.call('adoptPool', { pool, name, description, reserve }),
      );
      printPool('adopt', options, result.pool);
    },
  );
}

function addList(parent: Command): void {
  const command = parent
    .command('list')
    .description('list the pools that have a store')
    .option('--all', 'and all others that are imported');
  addManagerOptions(command).action(async (options: ManagerOptions & { all?: boolean }) => {
    const { all } = options;
    const result = await withManager(options, (client) => client.call('listPools', { all }));
    printResult('pool list', options, result, () =>
      result.pools.length === 0 ? 'There are no pools.' : formatPools(result.pools),
    );
  });
}

function addStatus(parent: Command): void {
  const command = parent
    .command('status')
    .description('show how a pool and its disks are')
    .argument('<pool>', 'its name or GUID')
    .addHelpText('after', '\nWith --json, "healthy" is false where an operator has to look.');
  addManagerOptions(command).action(async (pool: string, options: ManagerOptions) => {
    const { status } = await withManager(options, (client) => client.call('poolStatus', { pool }));
    printStatus('status', options, status);
  });
}

const HEALTH_HELP = `
It is looked at every half minute, and what changes is in the volume manager's log. A pool that
cannot be asked is unknown, never healthy. Exit status: 0 if all are healthy, 1 if not, or if one
is unknown.`;

function addHealth(parent: Command): void {
  const command = parent
    .command('health')
    .description('show which pools are healthy, and what is wrong with others and their disks')
    .addHelpText('after', HEALTH_HELP);
  addManagerOptions(command).action(async (options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('health', {}));
    printResult('pool health', options, result, () => formatHealth(result));
    const isWell = result.pools.every(({ verdict }) => verdict === 'healthy');
    if (!isWell || result.incomplete !== undefined) process.exitCode = 1;
  });
}

interface ImportOptions extends ManagerOptions {
  dir?: string[];
  newName?: string;
  force?: boolean;
}

function addImport(parent: Command): void {
  const command = parent
    .command('import')
    .description('bring a pool to this host; without a GUID, list those that could be')
    .argument('[guid]', 'of the pool: names need not be unique')
    .option('--dir <dir>', 'look for disks or files here, may be repeated', collect)
    .option('--new-name <name>', 'give it another name')
    .option('--force', 'although another host may use it');
  addManagerOptions(command).action(async (guid: string | undefined, options: ImportOptions) => {
    const { dir: dirs, newName, force } = options;
    if (guid === undefined) {
      const result = await withManager(options, (client) =>
        client.call('importablePools', { dirs }),
      );
      printResult('pool import', options, result, () =>
        result.pools.length === 0
          ? 'There is no pool to import.'
          : formatTable(
              [
                { title: 'POOL', value: ({ pool }) => pool },
                { title: 'STATE', value: ({ state }) => state },
                { title: 'GUID', value: ({ guid: id }) => id },
                { title: 'STATUS', value: ({ status = '' }) => status },
              ],
              result.pools,
            ),
      );
      return;
    }
    const { pool } = await withManager(options, (client) =>
      client.call('importPool', { guid, dirs, newName, force }),
    );
    printPool('import', options, pool);
  });
}

function addExport(parent: Command): void {
  const command = parent
    .command('export')
    .description('let go of a pool whose volumes nobody uses')
    .argument('<pool>', 'its name or GUID');
  addManagerOptions(command).action(async (pool: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('exportPool', { pool }));
    printResult('pool export', options, result, () => `${pool} is exported.`);
  });
}

function addDestroy(parent: Command): void {
  const command = parent
    .command('destroy')
    .description('destroy the store with all its volumes, and the pool if ringdisk has made it')
    .argument('<pool>', 'its name or GUID')
    .requiredOption('--yes', 'all of it is lost');
  addManagerOptions(command).action(async (pool: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('destroyPool', { pool }));
    printResult('pool destroy', options, result, () => `${pool} is destroyed.`);
  });
}

function addReserve(parent: Command): void {
  const command = parent
    .command('reserve')
    .description('keep a part of the pool free, so that it goes on working when volumes are full')
    .argument('<pool>', 'its name or GUID')
    .argument('<percent>', '0 to 90', Number);
  addManagerOptions(command).action(
    async (pool: string, percent: number, options: ManagerOptions) => {
      const result = await withManager(options, (client) =>
        client.call('setReserve', { pool, percent }),
      );
      printPool('reserve', options, result.pool);
    },
  );
}
