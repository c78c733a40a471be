// SPDX-License-Identifier: Apache-2.0
// Whose a disk is, in XAPI's words: the VM's UUID and the disk's name, from the nodes that xenopsd
// has written. Each is asked for once in a disk's life.
import type { XenstoreClient } from '../../xenstore/client.ts';
import { openXenstore } from '../../xenstore/connection.ts';
import { backendDir, domainPath } from '../../xenstore/paths.ts';
import type { ServedDisk } from './served_disks.ts';

export interface Guest {
  /** Of the VM. */
  readonly uuid: string;
  /** "xvda" */
  readonly device: string;
}

/** XAPI's storage lives in dom0. */
const BACKEND_DOMID = 0;
const VM = /^\/vm\/([0-9a-f-]{36})/i;
const DEVICE = /^[a-z0-9]{1,16}$/;

/** rrdd reads soon: who it is may be told the next time. */
const ANSWER_MS = 1000;

type Xenstore = Pick<XenstoreClient, 'read' | 'close'>;

export class Guests {
  readonly #open: () => Promise<Xenstore>;
  readonly #known = new Map<string, { readonly generation: string; readonly guest: Guest }>();
  #xenstore: Xenstore | undefined;

  constructor(open: () => Promise<Xenstore> = () => openXenstore({ waitMs: ANSWER_MS })) {
    this.#open = open;
  }

  /** By the disk's name; those that cannot be told are missing, and asked for again. */
  async of(disks: readonly ServedDisk[]): Promise<Map<string, Guest>> {
    const guests = new Map<string, Guest>();
    let isReachable = true;
    for (const disk of disks) {
      const known = this.#known.get(disk.name);
      let guest = known?.generation === disk.generation ? known.guest : undefined;
      try {
        if (!guest && isReachable) guest = await this.#ask(disk);
      } catch {
        // Without xenstored nobody is known; SRs have their metrics all the same.
        isReachable = false;
      }
      if (guest) guests.set(disk.name, guest);
    }
    this.#remember(disks, guests);
    return guests;
  }

  async close(): Promise<void> {
    await this.#xenstore?.close();
    this.#xenstore = undefined;
  }

  async #ask({ id }: ServedDisk): Promise<Guest | undefined> {
    this.#xenstore ??= await this.#open();
    const vm = await this.#xenstore.read(`${domainPath(id.domid)}/vm`);
    const device = await this.#xenstore.read(`${backendDir(BACKEND_DOMID, id)}/dev`);
    const [, uuid] = VM.exec(vm ?? '') ?? [];
    if (uuid === undefined || device === undefined || !DEVICE.test(device)) return undefined;
    return { uuid: uuid.toLowerCase(), device };
  }

  #remember(disks: readonly ServedDisk[], guests: ReadonlyMap<string, Guest>): void {
    this.#known.clear();
    for (const { name, generation } of disks) {
      const guest = guests.get(name);
      if (guest) this.#known.set(name, { generation, guest });
    }
  }
}
