// SPDX-License-Identifier: Apache-2.0
// The volume plugin's methods about volumes.
import type { VolumeInfo, VolumeManager } from '../volume/manager_types.ts';
import { changedBitmap, GRANULARITY } from './changed_blocks.ts';
import type { DaemonLink } from './daemon_link.ts';
import { type DiskPaths, TRANSIENT_OF } from './datapath.ts';
import { backendFailure } from './errors.ts';
import type { SmapiVolume, VolumeHandlers } from './schema.ts';
import { keptDefaults } from './sr_config.ts';
import { uriOf } from './uri.ts';
import type { WrittenMarks } from './written_marks.ts';

type VolumeCalls = {
  [M in keyof VolumeHandlers as M extends `Volume.${string}` ? M : never]: VolumeHandlers[M];
};

interface VolumeServices {
  readonly manager: VolumeManager;
  readonly daemon: DaemonLink;
  readonly paths: DiskPaths;
  readonly written: WrittenMarks;
}

export function volumeCalls(services: VolumeServices): VolumeCalls {
  const { manager, paths, written } = services;
  return {
    'Volume.stat': async ({ sr, key }) => told(manager, await manager.statVolume(sr, key)),
    'Volume.create': async ({ sr, name, description, size, sharable }) => {
      const { store } = await manager.statPool(sr);
      const wish = { pool: sr, name, description, size: checkedSize(size), sharable };
      return toVolume(await manager.createVolume({ ...wish, ...keptDefaults(store?.keys ?? {}) }));
    },
    'Volume.snapshot': async ({ sr, key }) => toVolume(await manager.snapshotVolume(sr, key), key),
    'Volume.clone': async ({ sr, key }) => toVolume(await manager.cloneVolume(sr, key)),
    // Also where there is none: XAPI destroys some volumes twice.
    'Volume.destroy': async ({ sr, key }) => {
      paths.refuseActive({ sr, key });
      await manager.destroyVolume(sr, key);
      written.forget({ sr, key });
      return null;
    },
    'Volume.revert': async ({ sr, snapshot, key }) => {
      paths.refuseActive({ sr, key });
      await manager.revertVolume(sr, key, snapshot);
      return null;
    },
    'Volume.resize': async ({ sr, key, new_size }) => {
      await manager.resizeVolume(sr, key, checkedSize(new_size));
      await tellOfSize(services, sr, key);
      return null;
    },
    'Volume.data_destroy': async ({ sr, key }) => {
      paths.refuseActive({ sr, key });
      await manager.destroyData(sr, key);
      return null;
    },
    'Volume.list_changed_blocks': async ({ sr, key, key2, offset, length }) =>
      changedBitmap(await manager.changedBlocks(sr, key, key2, GRANULARITY), offset, length),
    'Volume.compose': async ({ sr, key, key2 }) => {
      await compose(services, sr, key, key2);
      return null;
    },
    ...metadataCalls(manager),
  };
}

type MetadataCall = 'set_name' | 'set_description' | 'set' | 'unset' | 'enable_cbt' | 'disable_cbt';

function metadataCalls(manager: VolumeManager): Pick<VolumeCalls, `Volume.${MetadataCall}`> {
  const change = async (
    { sr, key }: { sr: string; key: string },
    metadata: Parameters<VolumeManager['setVolumeMetadata']>[2],
  ) => {
    await manager.setVolumeMetadata(sr, key, metadata);
    return null;
  };
  return {
    'Volume.set_name': (call) => change(call, { name: call.new_name }),
    'Volume.set_description': (call) => change(call, { description: call.new_description }),
    'Volume.set': (call) => change(call, { keys: { [call.k]: call.v } }),
    'Volume.unset': (call) => change(call, { keys: { [call.k]: null } }),
    'Volume.enable_cbt': (call) => change(call, { cbtEnabled: true }),
    'Volume.disable_cbt': (call) => change(call, { cbtEnabled: false }),
  };
}

/**
 * What an import has written to the child lies on top of the parent then, under the child's name,
 * and the parent is gone: how a disk comes from an SMAPIv1 SR while its guest writes.
 */
async function compose(services: VolumeServices, sr: string, child: string, parent: string) {
  const { manager, paths, written } = services;
  for (const key of [child, parent]) paths.refuseActive({ sr, key });
  const above = await manager.statVolume(sr, child);
  await written.layer(above, await manager.statVolume(sr, parent));
  await manager.replaceVolume(sr, child, parent);
  written.forget({ sr, key: child });
}

/** XAPI passes any size on. */
function checkedSize(size: number): number {
  if (Number.isSafeInteger(size) && size > 0) return size;
  throw backendFailure(79, `${size} bytes cannot be had`);
}

/** Guests that have it open learn of it; others will when they connect. */
async function tellOfSize({ daemon, paths }: VolumeServices, sr: string, key: string) {
  const exported = await paths.exportOf({ sr, key });
  if (!exported) return;
  const { vbds } = await daemon.call('list', {});
  const open = vbds.filter(({ target }) => target?.spec === exported.oldUri);
  for (const { name } of open) await daemon.call('resize', { vbd: name });
}

/** All of an SR, but for those that are nobody's business. */
export function toVolumes(infos: readonly VolumeInfo[]): SmapiVolume[] {
  const keys = new Map(infos.map(({ uuid, key }) => [uuid, key]));
  const shown = infos.filter((info) => !isTransient(info) && info.job === undefined);
  return shown.map((info) => toVolume(info, keys.get(info.snapshotOf ?? '')));
}

/** XAPI itself has said of most snapshots whose they are; of others it is looked for. */
async function told(manager: VolumeManager, info: VolumeInfo): Promise<SmapiVolume> {
  const { pool, kind, keys, snapshotOf } = info;
  const isToldBefore = kind === 'volume' || keys['snapshot_of'] !== undefined;
  if (isToldBefore || snapshotOf === undefined) return toVolume(info);
  const volumes = await manager.listVolumes(pool);
  return toVolume(info, volumes.find(({ uuid }) => uuid === snapshotOf)?.key);
}

/** `volumeKey`: of a snapshot's volume, where that is there. */
export function toVolume(info: VolumeInfo, volumeKey?: string): SmapiVolume {
  const { key, uuid, kind, name, description, pool, size, used, sharable, keys } = info;
  return {
    ...{ key, uuid, name, description, sharable },
    read_write: kind === 'volume',
    virtual_size: size,
    physical_utilisation: used,
    uri: [uriOf({ sr: pool, key })],
    keys: kind === 'volume' ? keys : { ...snapshotKeys(info, volumeKey), ...keys },
    cbt_enabled: info.cbtEnabled,
  };
}

/** Of a snapshot that XAPI has not asked for; of others it sets these itself. */
function snapshotKeys({ created }: VolumeInfo, volumeKey: string | undefined) {
  const time = new Date(created * 1000).toISOString();
  return {
    is_a_snapshot: 'true',
    snapshot_time: time.replaceAll('-', '').replace(/\..*$/, 'Z'),
    ...(volumeKey !== undefined && { snapshot_of: volumeKey }),
  };
}

/** For one life of a VM, and nobody's business. */
export function isTransient({ keys }: VolumeInfo): boolean {
  return keys[TRANSIENT_OF] !== undefined;
}
