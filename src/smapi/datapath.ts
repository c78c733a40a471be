// SPDX-License-Identifier: Apache-2.0
// A volume on its way to a guest: exported by the daemon while somebody has it activated. XAPI
// names the guest's disk by that export, which the daemon takes for what is exported; QEMU's
// emulated disk, dom0 and a mirror of another host are clients of it.
import type { WireExport } from '../control/protocol.ts';
import type { Logger } from '../log.ts';
import type { VolumeManager } from '../volume/manager_types.ts';
import { parseDomid } from '../xenstore/paths.ts';
import { type DaemonLink, isError } from './daemon_link.ts';
import type { DiskState, Disks } from './disks.ts';
import { backendFailure } from './errors.ts';
import type { SmapiBackend } from './schema.ts';
import { parseUri, uriOf, type VolumeName } from './uri.ts';
import type { WrittenMarks } from './written_marks.ts';

/** What a guest's disk has under way is over by then, or its medium hangs. */
const DRAIN_MS = 20_000;
/** Of the domain that a mirror of another host writes for, until the guest itself has moved. */
const MIRROR_DOMAIN = /^MIR/;

export interface DatapathServices {
  readonly manager: VolumeManager;
  readonly daemon: DaemonLink;
  readonly disks: Disks;
  readonly written: WrittenMarks;
  /** Of the daemon's exports. */
  readonly nbdFolder: string;
  readonly log: Logger;
}

/** What another host's client is to use. */
export interface ImportedExport {
  readonly socket: string;
  readonly name: string;
  readonly volume: VolumeName;
  /** Bytes. */
  readonly size: number;
}

interface Wanted {
  readonly readOnly: boolean;
  readonly handOver: boolean;
}

export class DiskPaths {
  readonly #services: DatapathServices;

  constructor(services: DatapathServices) {
    this.#services = services;
  }

  /** Touches nothing but what is remembered: it may be done for many, also while others write. */
  async attach(uri: string, domain: string): Promise<SmapiBackend> {
    const state = await this.#stateOf(uri);
    const attached = [...new Set([...state.attached, domain])];
    this.#services.disks.set(uri, { ...state, attached });
    return this.#backend(state);
  }

  /** `mode` of one who writes already stays so. */
  async activate(uri: string, domain: string, mode: 'write' | 'read'): Promise<void> {
    const { disks, written } = this.#services;
    const before = await this.#stateOf(uri);
    const known = before.active.find((one) => one.domain === domain);
    const others = before.active.filter((one) => one !== known);
    const now = known?.mode === 'write' ? known : { domain, mode };
    const state = { ...before, active: [...others, now] };
    // What a guest writes, no import marks.
    if (now.mode === 'write' && !MIRROR_DOMAIN.test(domain)) written.forget(parseUri(uri));
    disks.set(uri, state);
    try {
      await this.#export(uri, state);
    } catch (error) {
      disks.set(uri, before);
      await this.#export(uri, before).catch(() => {});
      throw error;
    }
  }

  /** For another host's client, whoever has activated it; the export that it is to use. */
  async activateForImport(uri: string, domain: string): Promise<ImportedExport> {
    const { manager, disks } = this.#services;
    const state = disks.get(uri);
    const isActive = state?.active.some(({ mode }) => mode === 'write') ?? false;
    if (!isActive) await this.activate(uri, domain, 'write');
    const { uuid } = await this.#stateOf(uri);
    const volume = parseUri(uri);
    const { size } = await manager.statVolume(volume.sr, volume.key);
    return { socket: this.#socketOf(uuid), name: uuid, volume, size };
  }

  /**
   * When this is over nothing of that domain's is under way on the volume: the one moment for which
   * XAPI waits. Throws where that cannot be said.
   */
  async deactivate(uri: string, domain: string): Promise<void> {
    const { disks } = this.#services;
    const before = disks.get(uri);
    if (!before?.active.some((one) => one.domain === domain)) return;
    const active = before.active.filter((one) => one.domain !== domain);
    const domid = active.length === 0 ? undefined : parseDomid(domain);
    if (active.length === 0 || domid !== undefined) await this.#drain(before, domid);
    // With the guest its mirror has gone.
    const { mirror, ...rest } = before;
    const isMirrored = mirror !== undefined && active.length > 0;
    const state = { ...rest, active, ...(isMirrored && { mirror }) };
    await this.#export(uri, state);
    disks.set(uri, state);
  }

  /** Never fails. */
  async detach(uri: string, domain: string): Promise<void> {
    const { disks, log } = this.#services;
    await this.deactivate(uri, domain).catch((error: unknown) => {
      log.error({ uri, domain, err: error }, 'detached while it may be in use');
    });
    const state = disks.get(uri);
    if (!state) return;
    disks.set(uri, { ...state, attached: state.attached.filter((other) => other !== domain) });
  }

  /** Not persistent: what is written goes to a clone, which is new each time. */
  async open(uri: string, persistent: boolean): Promise<void> {
    const { manager, disks } = this.#services;
    await this.close(uri);
    if (persistent) return;
    const { sr, key } = parseUri(uri);
    const keys = { [TRANSIENT_OF]: key };
    const clone = await manager.cloneVolume(sr, key, { keys });
    const { uuid, key: transient } = clone;
    disks.set(uri, { uuid, readOnly: false, attached: [], active: [], transient });
  }

  async close(uri: string): Promise<void> {
    const { manager, disks } = this.#services;
    const state = disks.get(uri);
    if (state?.transient === undefined) return;
    if (state.active.length > 0) throw backendFailure(24, whoUses(state));
    await manager.destroyVolume(parseUri(uri).sr, state.transient);
    const { transient: _, ...rest } = state;
    disks.set(uri, { ...rest, attached: [] });
  }

  /** Throws SR_BACKEND_FAILURE_24 while somebody has it activated. */
  refuseActive(name: VolumeName): void {
    const state = this.#services.disks.get(uriOf(name));
    if (state && state.active.length > 0) throw backendFailure(24, whoUses(state));
  }

  /** While it is mirrored nobody but its guest writes to it. */
  async setMirror(uri: string, mirror: string | undefined): Promise<void> {
    const { disks } = this.#services;
    const known = disks.get(uri);
    if (!known) return;
    const { mirror: _, ...rest } = known;
    const state = { ...rest, ...(mirror !== undefined && { mirror }) };
    disks.set(uri, state);
    await this.#export(uri, state);
  }

  /** The word by which XAPI names a disk of the volume; undefined: it is not attached. */
  exportedAs(uri: string): string | undefined {
    const state = this.#services.disks.get(uri);
    return state && this.#addressOf(state.uuid);
  }

  /** Of what is served of the volume now. */
  async exportOf(name: VolumeName): Promise<WireExport | undefined> {
    const state = this.#services.disks.get(uriOf(name));
    return state && state.active.length > 0 ? this.#find(state.uuid) : undefined;
  }

  async #stateOf(uri: string): Promise<DiskState> {
    const known = this.#services.disks.get(uri);
    if (known) return known;
    const { sr, key } = parseUri(uri);
    const { uuid, kind } = await this.#services.manager.statVolume(sr, key);
    return { uuid, readOnly: kind !== 'volume', attached: [], active: [] };
  }

  #backend({ uuid }: DiskState): SmapiBackend {
    const uri = this.#addressOf(uuid);
    const mark = { 'ringdisk-id': uuid };
    return {
      implementations: [
        ['XenDisk', { backend_type: 'qdisk', params: '', extra: mark }],
        ['Nbd', { uri }],
      ],
    };
  }

  #addressOf(uuid: string): string {
    return `nbd:unix:${this.#socketOf(uuid)}:exportname=${uuid}`;
  }

  #socketOf(uuid: string): string {
    return `${this.#services.nbdFolder}/${uuid}.sock`;
  }

  async #find(uuid: string): Promise<WireExport | undefined> {
    const { exports } = await this.#services.daemon.call('exportList', {});
    return exports.find(({ name }) => name === uuid);
  }

  /** Makes the daemon export what the state says, and nothing where nobody uses it. */
  async #export(uri: string, state: DiskState): Promise<void> {
    const { uuid, active } = state;
    const found = await this.#find(uuid);
    const wanted: Wanted = {
      readOnly:
        state.readOnly ||
        state.mirror !== undefined ||
        !active.some(({ mode }) => mode === 'write'),
      handOver: active.some(({ domain }) => MIRROR_DOMAIN.test(domain)),
    };
    const isWanted = active.length > 0;
    const isRight =
      found?.readOnly === wanted.readOnly && (found.handOver ?? false) === wanted.handOver;
    if (found && isWanted && isRight) return;
    if (found) await this.#remove(uuid);
    if (isWanted) await this.#add(uri, state, wanted);
    else await this.#hide(uri, state);
  }

  async #add(uri: string, state: DiskState, { readOnly, handOver }: Wanted): Promise<void> {
    const { manager, daemon } = this.#services;
    const { sr } = parseUri(uri);
    const key = servedKey(uri, state);
    const { uuid } = state;
    const { kind, device } = await manager.statVolume(sr, key);
    const isSnapshot = kind === 'snapshot';
    const source = isSnapshot ? (await manager.exposeSnapshot(sr, key, uuid)).device : device;
    if (source === undefined) throw backendFailure(46, `${key} has no data any more`);
    const request = { source, name: uuid, socket: this.#socketOf(uuid), readOnly };
    const more = { detectZeroes: true, ...(handOver && { handOver }) };
    try {
      await daemon.call('exportAdd', { ...request, ...more });
    } catch (error) {
      // A daemon that died before it could answer has it all the same.
      const isThere = isError(error, 'EXPORT_REFUSED') && (await this.#find(uuid)) !== undefined;
      if (!isThere) throw error;
    }
  }

  async #remove(uuid: string): Promise<void> {
    try {
      await this.#services.daemon.call('exportRemove', { name: uuid });
    } catch (error) {
      if (!isError(error, 'EXPORT_UNKNOWN')) throw error;
    }
  }

  async #hide(uri: string, state: DiskState): Promise<void> {
    const { manager, log } = this.#services;
    const { sr } = parseUri(uri);
    // A volume that is gone needs no hiding, and one that stays visible hurts nobody.
    await manager.hideSnapshot(sr, servedKey(uri, state), state.uuid).catch((error: unknown) => {
      log.warn({ uri, err: error }, 'the device of a snapshot stays');
    });
  }

  async #drain({ uuid }: DiskState, domid: number | undefined): Promise<void> {
    const whose = domid === undefined ? {} : { domid };
    const request = { name: uuid, ms: DRAIN_MS, ...whose };
    let left: string[];
    try {
      left = (await this.#services.daemon.call('exportDrain', request)).left;
    } catch (error) {
      if (isError(error, 'EXPORT_UNKNOWN')) return;
      throw error;
    }
    if (left.length > 0) throw backendFailure(24, `${left.join(', ')} has not let go of it`);
  }
}

/** In a volume's keys: it is a clone for one life of a VM. */
export const TRANSIENT_OF = 'ringdisk-transient-of';

function servedKey(uri: string, { transient }: DiskState): string {
  return transient ?? parseUri(uri).key;
}

function whoUses({ active }: DiskState): string {
  return `it is activated for ${active.map(({ domain }) => domain).join(', ')}`;
}
