// SPDX-License-Identifier: Apache-2.0
// Finds VBDs: one watch per backend kind covers every domain and disk of it. Events are hints; a
// device that is named too often costs a look at its nodes, one that is missed would cost a disk.
import type { Watch, XenstoreClient } from '../xenstore/client.ts';
import {
  backendDomainDir,
  backendKindDir,
  parseBackendPath,
  parseDevid,
  parseDomid,
} from '../xenstore/paths.ts';
import type { VbdId } from './id.ts';

export interface DiscoveryEvents {
  /** This device may have appeared, changed or gone. */
  changed(id: VbdId): void;
  /**
   * Something above the devices of this kind changed, of one domain where it is named: all that are
   * known there may have gone.
   */
  changedAbove(kind: string, domid: number | undefined): void;
  /** Enumerating failed; it is done again at the next change. */
  failed(kind: string, error: unknown): void;
}

export class Discovery {
  readonly #xenstore: XenstoreClient;
  readonly #backendDomid: number;
  readonly #events: DiscoveryEvents;
  readonly #watches: Watch[] = [];
  /** Folders whose enumeration under way has to be followed by another. */
  readonly #again = new Map<string, boolean>();

  constructor(xenstore: XenstoreClient, backendDomid: number, events: DiscoveryEvents) {
    this.#xenstore = xenstore;
    this.#backendDomid = backendDomid;
    this.#events = events;
  }

  /** Resolves when every device that is there by now has been reported. */
  async start(kinds: readonly string[]): Promise<void> {
    for (const kind of kinds) {
      const directory = backendKindDir(this.#backendDomid, kind);
      this.#watches.push(
        await this.#xenstore.watch(directory, (path) => this.#onChange(kind, path)),
      );
      await this.#enumerate(kind);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#watches.splice(0).map((watch) => watch.remove()));
  }

  #onChange(kind: string, path: string): void {
    const id = parseBackendPath(this.#backendDomid, path);
    if (id?.kind === kind) {
      this.#events.changed({ kind, domid: id.domid, devid: id.devid });
      return;
    }
    const directory = backendKindDir(this.#backendDomid, kind);
    // A guest that ends takes its folder with it: that concerns nobody else.
    const domid = path.startsWith(`${directory}/`)
      ? parseDomid(path.slice(directory.length + 1))
      : undefined;
    this.#events.changedAbove(kind, domid);
    void this.#enumerateUntilQuiet(kind, domid);
  }

  async #enumerateUntilQuiet(kind: string, domid: number | undefined): Promise<void> {
    const key = `${kind}/${domid ?? ''}`;
    const isUnderWay = this.#again.has(key);
    this.#again.set(key, isUnderWay);
    if (isUnderWay) return;
    try {
      do {
        this.#again.set(key, false);
        await (domid === undefined ? this.#enumerate(kind) : this.#enumerateDomain(kind, domid));
      } while (this.#again.get(key));
    } catch (error) {
      this.#events.failed(kind, error);
    } finally {
      this.#again.delete(key);
    }
  }

  async #enumerate(kind: string): Promise<void> {
    const domids = await this.#children(backendKindDir(this.#backendDomid, kind), parseDomid);
    for (const domid of domids) await this.#enumerateDomain(kind, domid);
  }

  async #enumerateDomain(kind: string, domid: number): Promise<void> {
    const directory = backendDomainDir(this.#backendDomid, kind, domid);
    for (const devid of await this.#children(directory, parseDevid)) {
      this.#events.changed({ kind, domid, devid });
    }
  }

  async #children(
    directory: string,
    parse: (name: string) => number | undefined,
  ): Promise<number[]> {
    const names = (await this.#xenstore.directory(directory)) ?? [];
    return names.map(parse).filter((id) => id !== undefined);
  }
}
