// SPDX-License-Identifier: Apache-2.0
import type {
  MirrorEvent,
  MirrorSetup,
  MirrorStatus,
  MirrorWish,
  NativeMirrors,
} from './mirror_binding.ts';

/** A target's mirror on the data path. */
export interface Mirror {
  readonly handle: number;
  /** undefined: it is gone. */
  status(): MirrorStatus | undefined;
  /** The destination: claimed, and no dead process writes to it any more. */
  give(target: { readonly handle: number }): Promise<void>;
  set(wish: MirrorWish): void;
  /** The source alone is the disk from now on. */
  end(): void;
  /** It has become ready, has been all over the disk once, or is over. */
  onChange(tell: () => void): void;
  /** No connection has it. Resolves when its source is free. */
  close(): Promise<void>;
  /** Its destination is free, too: never, where that hangs. */
  readonly gone: Promise<void>;
}

type Command = (post: (id: number) => void) => Promise<{ value: number }>;

/** All mirrors of a data path. */
export class Mirrors {
  readonly #engine: NativeMirrors;
  readonly #command: Command;
  readonly #tell = new Map<number, { changed: () => void; gone: () => void }>();

  constructor(engine: NativeMirrors, command: Command) {
    this.#engine = engine;
    this.#command = command;
  }

  on({ type, mirror }: MirrorEvent): void {
    const found = this.#tell.get(mirror);
    if (type === 'mirror-changed') found?.changed();
    else found?.gone();
  }

  async make(target: number, setup: MirrorSetup): Promise<Mirror> {
    const engine = this.#engine;
    const made = await this.#command((id) => engine.makeMirror(id, target, setup));
    return this.#mirror(made.value);
  }

  #mirror(handle: number): Mirror {
    const engine = this.#engine;
    let isGone = false;
    let changed = () => {};
    const gone = new Promise<void>((resolve) => {
      const tellGone = () => {
        isGone = true;
        this.#tell.delete(handle);
        resolve();
      };
      this.#tell.set(handle, { changed: () => changed(), gone: tellGone });
    });
    return {
      handle,
      gone,
      status: () => (isGone ? undefined : (engine.mirrorStatus(handle) ?? undefined)),
      give: async (target) => {
        await this.#command((id) => engine.giveMirror(id, handle, target.handle));
      },
      set: (wish) => {
        if (!isGone) engine.setMirror(handle, wish);
      },
      end: () => {
        if (!isGone) engine.endMirror(handle);
      },
      onChange: (tell) => {
        changed = tell;
      },
      close: async () => {
        await this.#command((id) => engine.closeMirror(id, handle));
      },
    };
  }
}
