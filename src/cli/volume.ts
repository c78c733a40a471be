// SPDX-License-Identifier: Apache-2.0
// `ringdisk volume`: volumes of ZFS, by the volume manager.
import type { Command } from 'commander';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { collect } from './repeated.ts';
import {
  addCreate,
  addKeys,
  addLabels,
  type Labels,
  type PropertyOptions,
  parseBytes,
  parseProperties,
} from './volume_create.ts';
import { addJobs } from './volume_job.ts';
import { addReceive, addReceiving, addSend } from './volume_send.ts';
import { formatVolumes, printVolume } from './volume_text.ts';
import {
  addManagerOptions,
  type ManagerOptions,
  parseVolume,
  resolveVolume,
  SNAPSHOT_ARGUMENT,
  VOLUME_ARGUMENT,
  withManager,
} from './with_manager.ts';

const EXAMPLES = `
A volume is a zvol of the pool's store, <pool>/ringdisk, and xl takes it as target=zfs:tank/vm1.

Example:
  ringdisk volume create tank/vm1 20G
  ringdisk volume snapshot tank/vm1 --name monday
  ringdisk volume clone tank/vm1@monday tank/vm2
  ringdisk volume revert tank/vm1 tank/vm1@monday`;

export function addVolume(program: Command): void {
  const command = program
    .command('volume')
    .description('make, snapshot, clone and change volumes of ZFS')
    .addHelpText('after', EXAMPLES);
  addList(command);
  addShow(command);
  addCreate(command);
  addSnapshot(command);
  addClone(command);
  addDestroy(command);
  addRename(command);
  addResize(command);
  addRevert(command);
  addImport(command);
  addSet(command);
  addKeys(command);
  addSend(command);
  addReceive(command);
  addReceiving(command);
  addJobs(command);
}

function addList(parent: Command): void {
  const command = parent
    .command('list')
    .description('list volumes, snapshots and bookmarks')
    .argument('[pool]', 'of this pool only');
  addManagerOptions(command).action(async (pool: string | undefined, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('listVolumes', { pool }));
    printResult('volume list', options, result, () =>
      result.volumes.length === 0 ? 'There are no volumes.' : formatVolumes(result.volumes),
    );
  });
}

function addShow(parent: Command): void {
  const command = parent
    .command('show')
    .description('show all that is known of a volume or snapshot')
    .argument('<volume>', `${VOLUME_ARGUMENT}, or ${SNAPSHOT_ARGUMENT}`);
  addManagerOptions(command).action(async (text: string, options: ManagerOptions) => {
    const result = await withManager(options, async (client) =>
      client.call('statVolume', await resolveVolume(client, text)),
    );
    printVolume('show', options, result.volume);
  });
}

function addSnapshot(parent: Command): void {
  const command = parent
    .command('snapshot')
    .description('keep a volume as it is now')
    .argument('<volume>', VOLUME_ARGUMENT)
    .addHelpText(
      'after',
      '\nIts file systems are as after a power cut, unless the guest has frozen them (fsfreeze).',
    );
  addManagerOptions(addLabels(command)).action(
    async (text: string, { name, description, ...options }: ManagerOptions & Labels) => {
      const wish = { ...parseVolume(text), name, description };
      const { volume } = await withManager(options, (client) =>
        client.call('snapshotVolume', wish),
      );
      printVolume('snapshot', options, volume);
    },
  );
}

interface CloneOptions extends ManagerOptions, Labels, PropertyOptions {
  thick?: boolean;
}

function addClone(parent: Command): void {
  const command = parent
    .command('clone')
    .description('make a volume out of another or of a snapshot, at once and at no cost')
    .argument('<volume>', `${VOLUME_ARGUMENT}, or ${SNAPSHOT_ARGUMENT}`)
    .argument('<new>', 'of the same pool: POOL/KEY')
    .option('--thick', 'reserve all of its size')
    .option('--property <name=value>', 'as for create', collect);
  addManagerOptions(addLabels(command)).action(
    async (text: string, to: string, options: CloneOptions) => {
      const { name, description, thick, property } = options;
      const target = parseVolume(to);
      const properties = property && parseProperties(property);
      const { volume } = await withManager(options, async (client) => {
        const source = await resolveVolume(client, text);
        refuseOtherPool(source.pool, target.pool);
        const wish = { ...source, newKey: target.key, name: name ?? target.key };
        return client.call('cloneVolume', { ...wish, description, thick, properties });
      });
      printVolume('clone', options, volume);
    },
  );
}

function refuseOtherPool(pool: string, other: string): void {
  if (pool === other) return;
  throw new UsageError(`A volume of ${pool} stays in it; ${other} is another pool.`);
}

function addDestroy(parent: Command): void {
  const command = parent
    .command('destroy')
    .description('destroy volumes, snapshots or bookmarks; others that stand on them stay')
    .argument('<volumes...>', `${VOLUME_ARGUMENT}, or ${SNAPSHOT_ARGUMENT}`);
  addManagerOptions(command).action(async (texts: string[], options: ManagerOptions) => {
    const volumes = await withManager(options, async (client) => {
      const done: { volume: string; destroyed: boolean }[] = [];
      for (const volume of texts) {
        const wish = await resolveVolume(client, volume);
        done.push({ volume, ...(await client.call('destroyVolume', wish)) });
      }
      return done;
    });
    const result = { destroyed: volumes.every(({ destroyed }) => destroyed), volumes };
    printResult('volume destroy', options, result, () =>
      volumes
        .map(({ volume, destroyed }) =>
          destroyed ? `${volume} is destroyed.` : `There is no ${volume}.`,
        )
        .join('\n'),
    );
  });
}

function addRename(parent: Command): void {
  const command = parent
    .command('rename')
    .description('give a volume that nobody uses another key, and with it another device')
    .argument('<volume>', VOLUME_ARGUMENT)
    .argument('<new>', 'POOL/KEY');
  addManagerOptions(command).action(async (text: string, to: string, options: ManagerOptions) => {
    const [from, target] = [parseVolume(text), parseVolume(to)];
    refuseOtherPool(from.pool, target.pool);
    const { volume } = await withManager(options, (client) =>
      client.call('renameVolume', { ...from, newKey: target.key }),
    );
    printVolume('rename', options, volume);
  });
}

function addResize(parent: Command): void {
  const command = parent
    .command('resize')
    .description('let a volume grow, also while a guest uses it')
    .argument('<volume>', VOLUME_ARGUMENT)
    .argument('<size>', 'such as 40G; never less than it has', parseBytes)
    .addHelpText('after', '\nA guest that uses it is told by ringdisk resize <vbd>.');
  addManagerOptions(command).action(async (text: string, size: number, options: ManagerOptions) => {
    const { volume } = await withManager(options, (client) =>
      client.call('resizeVolume', { ...parseVolume(text), size }),
    );
    printVolume('resize', options, volume);
  });
}

function addRevert(parent: Command): void {
  const command = parent
    .command('revert')
    .description('bring a volume that nobody uses back to one of its snapshots; all of them stay')
    .argument('<volume>', VOLUME_ARGUMENT)
    .argument('<snapshot>', SNAPSHOT_ARGUMENT);
  addManagerOptions(command).action(
    async (text: string, snapshot: string, options: ManagerOptions) => {
      const { volume } = await withManager(options, async (client) => {
        const { key } = await resolveVolume(client, snapshot);
        return client.call('revertVolume', { ...parseVolume(text), snapshot: key });
      });
      printVolume('revert', options, volume);
    },
  );
}

function addImport(parent: Command): void {
  const command = parent
    .command('import')
    .description('make an existing zvol a volume: it is renamed into the store')
    .argument('<zvol>', 'its name in ZFS, such as tank/vm-disks/vm1')
    .argument('<volume>', VOLUME_ARGUMENT);
  addManagerOptions(addLabels(command)).action(
    async (
      dataset: string,
      text: string,
      { name, description, ...options }: ManagerOptions & Labels,
    ) => {
      const { volume } = await withManager(options, (client) =>
        client.call('importVolume', { ...parseVolume(text), dataset, name, description }),
      );
      printVolume('import', options, volume);
    },
  );
}

interface SetOptions extends ManagerOptions, Labels {
  inherit?: string[];
}

function addSet(parent: Command): void {
  const command = parent
    .command('set')
    .description('change properties of a volume, its name or its description')
    .argument('<volume>', VOLUME_ARGUMENT)
    .argument('[properties...]', 'NAME=VALUE, as for create')
    .option('--inherit <name>', 'take a property back to what the pool has', collect);
  addManagerOptions(addLabels(command)).action(
    async (text: string, pairs: string[], options: SetOptions) => {
      const { name, description, inherit = [] } = options;
      const taken = Object.fromEntries(inherit.map((property) => [property, null]));
      const properties = { ...parseProperties(pairs), ...taken };
      const { volume } = await withManager(options, async (client) => {
        const which = parseVolume(text);
        let result = await client.call('setVolumeMetadata', { ...which, name, description });
        if (Object.keys(properties).length > 0) {
          result = await client.call('setVolumeProperties', { ...which, properties });
        }
        return result;
      });
      printVolume('set', options, volume);
    },
  );
}
