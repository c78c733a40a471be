// SPDX-License-Identifier: Apache-2.0
// One image and the process that serves it: started, watched, started again when it crashes, ended
// when nobody uses it any more. It outlives this daemon.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DatapathError, type MediumParts, type OpenOptions } from '../datapath/datapath.ts';
import type { Logger } from '../log.ts';
import { Backoff } from '../vbd/backoff.ts';
import { LimitedLog } from '../vbd/rate_limit.ts';
import type { ImageNode } from './helper_command.ts';
import {
  type HelperFiles,
  type HelperRecord,
  helperFiles,
  helperKey,
  imagesFolder,
  readHelperRecord,
  removeHelperFiles,
} from './helper_record.ts';
import { type ImageFormat, keepsBack, parseImagePath } from './image_spec.ts';
import { startHelper } from './start_helper.ts';
import { type HelperWatch, isAlive, reasonOf, watchHelper } from './watch_helper.ts';

const AGAIN = { firstMs: 100, mostMs: 10_000, leastMs: 100 };
/** One that lived so long is started again at once. */
const STEADY_MS = 10_000;
const LOOK_MS = 10;

export interface ImageWish {
  readonly format: ImageFormat;
  /** See imagePath(). */
  readonly image: string;
  readonly readOnly: boolean;
}

/** JSON-able. */
export interface HelperInfo {
  readonly program: string;
  /** Missing while it does not run. */
  readonly pid?: number;
  /** How often it was started again. */
  readonly restarts: number;
  /** Why it does not run. */
  readonly error?: string;
  /** The image and what it is based on, the top one first; none of what lies elsewhere. */
  readonly chain: ImageNode[];
}

export class Helper {
  readonly wish: ImageWish;
  readonly key: string;
  readonly #runtimeDir: string;
  readonly #files: HelperFiles;
  readonly #log: LimitedLog;
  readonly #backoff = new Backoff(AGAIN);
  #record: HelperRecord | undefined;
  #watch: HelperWatch | undefined;
  #startedMs = 0;
  #restarts = 0;
  #error: string | undefined;
  /** Under way. */
  #starting: Promise<void> | undefined;
  #ending: Promise<void> | undefined;
  readonly #end = new AbortController();
  #isLeft = false;

  constructor(wish: ImageWish, runtimeDir: string, log: Logger) {
    this.wish = wish;
    this.key = helperKey(wish.format, wish.image, wish.readOnly);
    this.#runtimeDir = runtimeDir;
    this.#files = helperFiles(imagesFolder(runtimeDir), this.key);
    this.#log = new LimitedLog(log.child({ image: `${wish.format}:${wish.image}` }));
  }

  /** Of one that a former daemon started; undefined: it has ended, and nothing is left of it. */
  static adopt(key: string, runtimeDir: string, log: Logger): Helper | undefined {
    const files = helperFiles(imagesFolder(runtimeDir), key);
    const record = readHelperRecord(files);
    if (!record || !isAlive(record)) {
      removeHelperFiles(files);
      return undefined;
    }
    const helper = new Helper(record, runtimeDir, log);
    helper.#listen(record);
    helper.#starting = helper.#served();
    helper.#starting.catch(() => {});
    return helper;
  }

  get socket(): string {
    return this.#files.socket;
  }

  get identity(): string {
    return this.#record?.identity ?? '';
  }

  get parts(): MediumParts | undefined {
    return this.#record?.parts;
  }

  /** See image_spec.ts. */
  get keepsBack(): boolean {
    return keepsBack(parseImagePath(this.wish.format, this.wish.image));
  }

  get isEnding(): boolean {
    return this.#ending !== undefined;
  }

  /** Resolves when it serves. Takes as long as the image takes to open. Throws DatapathError,
   * and what `admit` throws. */
  async start(admit?: OpenOptions['admit']): Promise<void> {
    this.#starting ??= this.#launch(admit);
    await this.#starting;
  }

  /** Nobody waits for it: what fails is tried again. */
  startSometime(): void {
    this.#starting ??= this.#launch().catch((error: Error) => {
      this.#error = error.message;
      this.#backoff.failed();
      return this.#startAgain();
    });
  }

  info(): HelperInfo {
    const record = this.#record;
    const runs = this.#watch !== undefined && !this.#watch.isOver();
    return {
      program: record?.program ?? '',
      ...(runs && record && { pid: record.pid }),
      restarts: this.#restarts,
      ...(this.#error !== undefined && { error: this.#error }),
      chain: [...(record?.nodes ?? [])],
    };
  }

  /** Resolves when its process has ended: what it had in memory is in the image then. */
  end(): Promise<void> {
    this.#ending ??= this.#finish();
    return this.#ending;
  }

  /** It goes on without this daemon. */
  leave(): void {
    this.#isLeft = true;
    this.#end.abort();
    this.#watch?.stop();
  }

  async #launch(admit?: OpenOptions['admit'], before?: HelperRecord): Promise<void> {
    const { format, image, readOnly } = this.wish;
    const request = { version: 1, runtimeDir: this.#runtimeDir, format, image, readOnly } as const;
    const expected = before && { identity: before.identity, parts: before.parts };
    try {
      await startHelper({ ...request, ...expected }, async (record) => {
        await admit?.(record.identity, record.parts);
        this.#listen(record);
      });
    } catch (error) {
      this.#listen(this.#foundOrThrow(error));
    }
    await this.#served();
  }

  /** A daemon that died may have asked for it a moment ago. */
  #foundOrThrow(error: unknown): HelperRecord {
    const isBusy = error instanceof DatapathError && error.code === 'EBUSY';
    const record = isBusy ? readHelperRecord(this.#files) : undefined;
    if (record && isAlive(record)) return record;
    throw error;
  }

  #listen(record: HelperRecord): void {
    this.#record = record;
    this.#startedMs = performance.now();
    this.#watch = watchHelper(record, this.#files, (line) => this.#log.warn({ line }, 'it says'));
  }

  async #served(): Promise<void> {
    const [record, watch] = [this.#record, this.#watch];
    if (!record || !watch) throw new Error('nothing has been started');
    while (!existsSync(this.#files.pidFile) && !watch.isOver()) {
      await Promise.race([watch.ended, sleep(LOOK_MS, undefined, { ref: false })]);
    }
    if (watch.isOver()) {
      this.#forget(record);
      const { code, message } = reasonOf(watch.lines);
      throw new DatapathError(code, `${record.program} cannot serve the image: ${message}`);
    }
    this.#error = undefined;
    this.#log.info({ program: record.program, pid: record.pid }, 'served');
    void watch.ended.then(() => this.#ended(watch));
  }

  #ended({ lines }: HelperWatch): void {
    if (this.#end.signal.aborted) return;
    const error = `${this.#record?.program} has ended: ${reasonOf(lines).message}`;
    this.#error = error;
    this.#log.error(
      { error, ...this.#loss() },
      'what serves the image has ended; it is started again',
    );
    if (performance.now() - this.#startedMs > STEADY_MS) this.#backoff.reset();
    else this.#backoff.failed();
    this.#starting = this.#startAgain();
  }

  #loss(): { lost?: string } {
    if (this.wish.readOnly || !this.keepsBack) return {};
    return {
      lost: 'what the guest has written since its last flush (not without cache.writeback=on)',
    };
  }

  async #startAgain(): Promise<void> {
    const { signal } = this.#end;
    for (;;) {
      await sleep(this.#backoff.dueMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.#launch(undefined, this.#record);
        this.#restarts++;
        return;
      } catch (error) {
        const { message } = error as Error;
        if (message !== this.#error) this.#log.error({ error: message }, 'cannot be started again');
        this.#error = message;
        this.#backoff.failed();
      }
    }
  }

  async #finish(): Promise<void> {
    this.#end.abort();
    await this.#starting?.catch(() => {});
    if (this.#isLeft) return;
    const record = this.#record;
    const watch = this.#watch;
    if (record && watch && !watch.isOver()) {
      askToEnd(record);
      await watch.ended;
    }
    if (record) this.#forget(record);
  }

  /** What is there by now may be another's. */
  #forget({ pid, startedAt }: HelperRecord): void {
    const there = readHelperRecord(this.#files);
    if (there?.pid === pid && there.startedAt === startedAt) removeHelperFiles(this.#files);
  }
}

function askToEnd(record: HelperRecord): void {
  if (!isAlive(record)) return;
  try {
    process.kill(record.pid, 'SIGTERM');
  } catch {
    // It has just ended.
  }
}
