// SPDX-License-Identifier: Apache-2.0
// All images that other programs serve for this daemon, by how many of its targets each is used.
// They outlive it: the next daemon finds them, and ends those that nobody asks for.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Datapath, MediumParts, OpenTarget } from '../datapath/datapath.ts';
import { TargetSpecError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Helper, type HelperInfo, type ImageWish } from './helper.ts';
import { EXPORT_NAME } from './helper_command.ts';
import { helperKey, imagesFolder, listHelpers } from './helper_record.ts';
import { isImageFormat } from './image_spec.ts';

/** So long after a start a guest's disk has been taken over, or has said why not. */
const UNUSED_MS = 60_000;

type OpenTargets = Pick<Datapath, 'openTarget'>;
type Spec = Parameters<OpenTargets['openTarget']>[0];
type Options = Parameters<OpenTargets['openTarget']>[1];

interface Used {
  readonly helper: Helper;
  users: number;
}

export class Images implements OpenTargets {
  readonly #datapath: OpenTargets;
  readonly #runtimeDir: string;
  readonly #log: Logger;
  readonly #all = new Map<string, Used>();
  readonly #end = new AbortController();

  constructor(datapath: OpenTargets, runtimeDir: string, log: Logger) {
    this.#datapath = datapath;
    this.#runtimeDir = runtimeDir;
    this.#log = log;
  }

  /** Finds what the daemon before left. `unusedMs`: until those that nobody uses are ended. */
  begin(unusedMs = UNUSED_MS): void {
    for (const key of listHelpers(imagesFolder(this.#runtimeDir))) {
      const helper = Helper.adopt(key, this.#runtimeDir, this.#log);
      if (helper) this.#all.set(helper.key, { helper, users: 0 });
    }
    if (this.#all.size === 0) return;
    sleep(unusedMs, undefined, { signal: this.#end.signal, ref: false })
      .then(() => this.#endUnused())
      .catch(() => {});
  }

  /** As Datapath.openTarget(), for images, too, also as what a disk is filled from. */
  async openTarget(spec: Spec, options?: Options): Promise<OpenTarget> {
    const { kind, path, readOnly } = spec.fill?.source ?? spec;
    if (!isImageFormat(kind)) return this.#datapath.openTarget(spec, options);
    if (kind === 'https' && !readOnly) {
      throw new TargetSpecError('What is read by https cannot be written: attach it read only.');
    }
    const used = await this.#use({ format: kind, image: path, readOnly });
    const { helper } = used;
    try {
      const nbd = `${helper.socket}:exportname=${EXPORT_NAME}`;
      const { keepsBack } = helper;
      const served = { kind: 'nbd', path: nbd, readOnly, keepsNothing: !keepsBack } as const;
      const { fill } = spec;
      if (!fill) await helper.start(options?.admit);
      const target = fill
        ? await this.#openFilled({ ...spec, fill: { ...fill, source: served } }, helper, options)
        : await this.#datapath.openTarget(served, options);
      const shown = fill ? undefined : { kind, identity: helper.identity };
      const parts = fill ? partsOfFilled(target, helper) : () => helper.parts;
      return withImage(target, shown, parts, () => this.#release(used));
    } catch (error) {
      await this.#release(used);
      throw error;
    }
  }

  /** One that is full needs no source, and one that is taken over does not wait for it. */
  async #openFilled(spec: Spec, helper: Helper, options?: Options): Promise<OpenTarget> {
    let problem: unknown;
    if (spec.fill?.lateSource) helper.startSometime();
    else
      await helper.start().catch((error) => {
        problem = error;
      });
    return this.#datapath.openTarget(spec, options).catch((error) => {
      throw problem ?? error;
    });
  }

  /** undefined: it is no image, or nobody uses it. */
  describe(kind: string, path: string, readOnly: boolean): HelperInfo | undefined {
    if (!isImageFormat(kind)) return undefined;
    return this.#find({ format: kind, image: path, readOnly })?.helper.info();
  }

  /** Ends what nobody uses. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#endUnused();
  }

  /** They go on without this daemon. */
  leave(): void {
    this.#end.abort();
    for (const { helper } of this.#all.values()) helper.leave();
  }

  async #use(wish: ImageWish): Promise<Used> {
    for (;;) {
      const found = this.#find(wish);
      if (found?.helper.isEnding) {
        await found.helper.end();
        continue;
      }
      const used = found ?? { helper: new Helper(wish, this.#runtimeDir, this.#log), users: 0 };
      this.#all.set(used.helper.key, used);
      used.users++;
      return used;
    }
  }

  /** Whoever may write may also read. */
  #find(wish: ImageWish): Used | undefined {
    const { format, image, readOnly } = wish;
    const of = (readOnly: boolean) => this.#all.get(helperKey(format, image, readOnly));
    return of(false) ?? of(readOnly);
  }

  async #release(used: Used): Promise<void> {
    used.users--;
    if (used.users === 0) await this.#endOne(used);
  }

  async #endUnused(): Promise<void> {
    const unused = [...this.#all.values()].filter(({ users }) => users === 0);
    await Promise.all(unused.map((used) => this.#endOne(used)));
  }

  async #endOne({ helper }: Used): Promise<void> {
    await helper.end();
    if (this.#all.get(helper.key)?.helper === helper) this.#all.delete(helper.key);
  }
}

/** What a disk is filled from must not change until it is full. */
function partsOfFilled(
  target: Pick<OpenTarget, 'fill'>,
  helper: Helper,
): () => MediumParts | undefined {
  let source: MediumParts | undefined;
  return () => {
    const { identity, parts } = helper;
    // One that is started sometime is not known yet.
    if (identity === '' || (target.fill()?.full ?? true)) return undefined;
    const files = [identity, ...(parts?.beside ?? []), ...(parts?.bases ?? [])];
    source ??= { beside: [], bases: files };
    return source;
  };
}

/** `shown`: what its capabilities say instead. */
function withImage(
  target: OpenTarget,
  shown: Partial<OpenTarget['capabilities']> | undefined,
  parts: () => MediumParts | undefined,
  release: () => Promise<void>,
): OpenTarget {
  let closing: Promise<void> | undefined;
  return {
    handle: target.handle,
    get capabilities() {
      return { ...target.capabilities, ...shown };
    },
    get parts() {
      return parts();
    },
    get fence() {
      return target.fence;
    },
    claim: (options) => target.claim(options),
    refresh: async () => ({ ...(await target.refresh()), ...shown }),
    track: (bitmaps) => target.track(bitmaps),
    fill: () => target.fill(),
    setFill: (rate, paused) => target.setFill(rate, paused),
    waits: () => target.waits(),
    close: () => {
      closing ??= target.close().finally(release);
      return closing;
    },
  };
}
