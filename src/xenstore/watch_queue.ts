// SPDX-License-Identifier: Apache-2.0
// Changed paths on their way to one watch's callback. The queue is bounded whatever a guest does
// below the watched path: a path already waiting is not queued again, and too many different ones
// become a single event on the watched path itself (an unbounded one was a way to exhaust the
// backend's memory, XSA-349).

/** Different paths one watch lets wait. */
export const waitingPathsMax = 256;

/** The paths that wait for one watch, in order of their first change. */
export class WaitingPaths {
  readonly #watchPath: string;
  #paths = new Set<string>();

  constructor(watchPath: string) {
    this.#watchPath = watchPath;
  }

  get isEmpty(): boolean {
    return this.#paths.size === 0;
  }

  add(path: string): void {
    if (this.#paths.has(path)) return;
    if (this.#paths.size >= waitingPathsMax) {
      // Means the same as the first event of a watch: anything below may have changed.
      this.#paths = new Set([this.#watchPath]);
      return;
    }
    this.#paths.add(path);
  }

  /** The path that waits longest; it may be added again from now on. */
  take(): string | undefined {
    for (const path of this.#paths) {
      this.#paths.delete(path);
      return path;
    }
    return undefined;
  }

  clear(): void {
    this.#paths.clear();
  }
}

/** Delivers in a later turn of the event loop, so that changes that arrive together coalesce. */
export class WatchQueue {
  readonly #waiting: WaitingPaths;
  readonly #deliver: (path: string) => void;
  #scheduled = false;
  #closed = false;

  constructor(watchPath: string, deliver: (path: string) => void) {
    this.#waiting = new WaitingPaths(watchPath);
    this.#deliver = deliver;
  }

  add(path: string): void {
    if (this.#closed) return;
    this.#waiting.add(path);
    this.#schedule();
  }

  /** Nothing is delivered after this. */
  close(): void {
    this.#closed = true;
    this.#waiting.clear();
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.isEmpty) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#drain();
    });
  }

  #drain(): void {
    try {
      // Bounded, so that a callback that causes its own event cannot hold the event loop.
      for (let count = 0; count < waitingPathsMax; count++) {
        const path = this.#waiting.take();
        if (path === undefined) return;
        this.#deliver(path);
      }
    } finally {
      // A callback that throws is a bug and ends the process, unless someone catches it: then the
      // others must still be delivered.
      this.#schedule();
    }
  }
}
