// SPDX-License-Identifier: Apache-2.0
// One watch for all who wait for nodes below one folder: a domain other than dom0 may have 128, and
// the disks of a guest are more than one.
import type { Watch, XenstoreClient } from './client.ts';
import { isAtOrBelow } from './paths.ts';

interface Follower {
  readonly path: string;
  readonly onChange: () => void;
}

interface Folder {
  readonly followers: Set<Follower>;
  readonly registered: Promise<Watch>;
}

export class SharedWatches {
  readonly #xenstore: Pick<XenstoreClient, 'watch'>;
  readonly #folders = new Map<string, Folder>();

  constructor(xenstore: Pick<XenstoreClient, 'watch'>) {
    this.#xenstore = xenstore;
  }

  /**
   * As a watch on `path`, which is below `folder`: calls back once at registration, then when the
   * node or anything above it changes. What changes beside or below it is not told.
   */
  async follow(folder: string, path: string, onChange: () => void): Promise<Watch> {
    const follower = { path, onChange };
    const shared = this.#folders.get(folder) ?? this.#open(folder);
    const isFirst = shared.followers.size === 0;
    shared.followers.add(follower);
    try {
      await shared.registered;
    } catch (error) {
      shared.followers.delete(follower);
      throw error;
    }
    // The watch itself has fired before for those that were here.
    if (!isFirst) setImmediate(() => shared.followers.has(follower) && onChange());
    return { path, remove: () => this.#leave(folder, shared, follower) };
  }

  #open(folder: string): Folder {
    const followers = new Set<Follower>();
    const registered = this.#xenstore.watch(folder, (changed) => {
      for (const { path, onChange } of [...followers]) {
        if (isAtOrBelow(path, changed)) onChange();
      }
    });
    const shared = { followers, registered };
    this.#folders.set(folder, shared);
    // Nobody is kept from trying again.
    registered.catch(() => this.#forget(folder, shared));
    return shared;
  }

  async #leave(folder: string, shared: Folder, follower: Follower): Promise<void> {
    if (!shared.followers.delete(follower) || shared.followers.size > 0) return;
    this.#forget(folder, shared);
    await (await shared.registered).remove();
  }

  #forget(folder: string, shared: Folder): void {
    if (this.#folders.get(folder) === shared) this.#folders.delete(folder);
  }
}
