// SPDX-License-Identifier: Apache-2.0
// A guest's disks follow it to another host: mirrored there while it runs, both ends alike while
// the toolstack moves it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { DaemonUnreachableError } from '../control/errors.ts';
import type { Methods, WireMirror } from '../control/protocol.ts';
import { RingdiskError } from '../errors.ts';
import { orAborted } from '../vbd/beside.ts';
import { ProgressLine } from './demo_report.ts';
import { InterruptedError, UsageError } from './exit_code.ts';
import { mirrorName } from './mirror.ts';
import { printResult } from './output.ts';
import { rateOption } from './rate.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

interface MigrateOptions extends DaemonOptions {
  rate?: string;
  run?: string;
}

interface Disk {
  /** As it was asked for, until the daemon has said how it calls it. */
  vbd: string;
  readonly target: string;
}

type Request = Omit<Methods['mirror']['params'], 'vbd'>;

const LOOK_MS = 500;
/** A daemon that is restarted, or upgraded, is back by then. */
const AWAY_MS = 60_000;
/** How long the guest's end may take here once the toolstack says that it has moved. */
const GONE_MS = 60_000;

/** What a daemon says of a mirror that is no more. */
const OVER: readonly string[] = ['MIRROR_NONE', 'VBD_UNKNOWN'];

const HELP = `
On the other host, give the disk room and export it, to be handed over to the guest's new disk:
  truncate -s 20G /srv/vm1.img
  ringdisk export add /srv/vm1.img --name vm1 --hand-over
Here, with a path to that export (see README, Exports over the network):
  ringdisk migrate-storage 3/xvda=nbd:unix:/run/ringdisk/nbd/host2.sock:exportname=vm1 \\
    --run 'xl migrate -C /etc/xen/vm1.cfg vm1 host2'

The disks are copied while the guest writes. Then each of its writes is answered when both hosts
have it, and the command is run. If that fails the guest goes on here and its disks are mirrored no
more. Without --run it ends when all is copied, and the disks stay mirrored until the guest has gone
or 'ringdisk mirror stop'.`;

export function addMigrateStorage(program: Command): void {
  const command = program
    .command('migrate-storage')
    .description("move a guest's disks to another host's storage, and let the guest follow")
    .argument('<disk=target...>', 'each disk (3/xvda), and the target that it gets there')
    .option('--rate <rate>', 'copy no more than so many bytes a second of each disk (20M)')
    .option('--run <command>', 'for a shell, when all is copied: what migrates the guest')
    .addHelpText('after', HELP);
  addDaemonOptions(command).action(migrate);
}

async function migrate(pairs: string[], options: MigrateOptions): Promise<void> {
  const disks = pairs.map(parsePair);
  const interrupt = new AbortController();
  const again = new AbortController();
  const stop = () => (interrupt.signal.aborted ? again : interrupt).abort();
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const mirrors = new DiskMirrors(disks, options);
  try {
    await mirrors.start(options.rate, interrupt.signal);
    await orInterrupted(mirrors.untilAlike(interrupt.signal), interrupt.signal);
    if (options.run !== undefined) await follow(options.run, mirrors, interrupt.signal);
  } catch (error) {
    const left = await mirrors.stop(again.signal);
    throw left.length === 0 ? error : stillMirrored(error as Error, left);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
  const result = { disks, migrated: options.run !== undefined };
  printResult('migrate-storage', options, result, () => endText(result));
}

/** The same failure, with what is left of it. */
function stillMirrored(error: Error, vbds: readonly string[]): Error {
  const message =
    `${error.message} The daemon has not said that these are mirrored no more: ` +
    `${vbds.join(', ')}. 'ringdisk mirror status' tells, 'ringdisk mirror stop' ends it.`;
  if (error instanceof InterruptedError) return new InterruptedError(message);
  return new RingdiskError('MIGRATION_FAILED', message);
}

function endText({ disks, migrated }: { disks: Disk[]; migrated: boolean }): string {
  const names = disks.map(({ vbd }) => vbd).join(', ');
  if (migrated) return `The guest has moved, and ${names} with it.`;
  return (
    `${names}: both hosts have all there is, and get all that is written. Migrate the guest now: ` +
    'its disks there connect when it has gone from here.'
  );
}

function parsePair(text: string): Disk {
  const [, vbd, target] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (vbd !== undefined && target !== undefined) return { vbd, target };
  throw new UsageError(`${text} does not say a disk and its target, as 3/xvda=nbd:... does.`);
}

/** Throws what is to be told of a guest that has not moved. */
async function follow(text: string, mirrors: DiskMirrors, signal: AbortSignal): Promise<void> {
  const child = spawn('/bin/sh', ['-c', text], { stdio: ['inherit', 2, 2] });
  const [code, endedBy] = await once(child, 'exit');
  if (code !== 0) {
    // The terminal's ^C has ended both.
    if (signal.aborted) throw new InterruptedError('Interrupted: the guest stays.');
    const how = endedBy ?? `status ${code}`;
    throw new RingdiskError('MIGRATION_FAILED', `The command ended with ${how}: the guest stays.`);
  }
  await mirrors.untilGone();
}

/** A daemon that hangs answers nothing for a minute. */
async function orInterrupted(step: Promise<void>, signal: AbortSignal): Promise<void> {
  await orAborted(step, signal).catch((error: unknown) => {
    throwIfInterrupted(signal);
    throw error;
  });
}

function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new InterruptedError('Interrupted: nothing has moved.');
}

/** A daemon that has just been started may not know its disks yet. */
function isBeingTakenOver(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'VBD_NOT_READY';
}

class DiskMirrors {
  readonly #disks: readonly Disk[];
  readonly #options: DaemonOptions;
  readonly #progress: ProgressLine;
  readonly #started: Disk[] = [];

  constructor(disks: readonly Disk[], options: DaemonOptions) {
    this.#disks = disks;
    this.#options = options;
    this.#progress = new ProgressLine(options.json === true);
  }

  async start(rate: string | undefined, signal: AbortSignal): Promise<void> {
    for (const disk of this.#disks) {
      throwIfInterrupted(signal);
      const { target } = disk;
      const request = { action: 'start', target, mode: 'copy', ...rateOption(rate) } as const;
      disk.vbd = (await this.#ask(disk, request)).vbd;
      this.#started.push(disk);
    }
  }

  /** First the target follows the guest; then the guest waits for it, and no write is missing. */
  async untilAlike(signal: AbortSignal): Promise<void> {
    await this.#until(['following', 'ready'], signal);
    for (const disk of this.#disks) await this.#ask(disk, { action: 'set', mode: 'sync' });
    await this.#until(['ready'], signal);
  }

  async untilGone(): Promise<void> {
    const deadline = performance.now() + GONE_MS;
    for (const disk of this.#disks) {
      while (await this.#isThere(disk)) {
        if (performance.now() > deadline) {
          const message = `${disk.vbd} is still here: the guest has not moved.`;
          throw new RingdiskError('MIGRATION_FAILED', message);
        }
        await sleep(LOOK_MS);
      }
    }
  }

  /**
   * Those of a guest that has gone are over already. Says which may go on: nobody is asked any more
   * once `again` is aborted.
   */
  async stop(again: AbortSignal): Promise<string[]> {
    const left = new Set(this.#started.map(({ vbd }) => vbd));
    const all = Promise.all(
      this.#started.map(async (disk) => {
        await this.#ask(disk, { action: 'stop' }).catch((error: { code?: string }) => {
          if (!OVER.includes(error.code ?? '')) throw error;
        });
        left.delete(disk.vbd);
      }),
    );
    await orAborted(all, again).catch(() => {});
    return [...left];
  }

  async #until(states: WireMirror['state'][], signal: AbortSignal): Promise<void> {
    const missing = new Set(this.#disks);
    while (missing.size > 0) {
      throwIfInterrupted(signal);
      for (const disk of [...missing]) {
        const now = await this.#mirrorOf(disk);
        this.#tell(disk, now);
        if (states.includes(now.state)) missing.delete(disk);
      }
      if (missing.size > 0) await sleep(LOOK_MS);
    }
  }

  #tell({ vbd }: Disk, now: WireMirror): void {
    const { bytes, bytesBehind } = now;
    this.#progress.update(`${vbd} ${mirrorName(now)}`, bytes - bytesBehind, bytes, 0);
  }

  async #mirrorOf(disk: Disk): Promise<WireMirror> {
    const { mirror } = await this.#ask(disk, { action: 'status' });
    if (mirror && mirror.state !== 'failed') return mirror;
    const why = mirror?.error ?? 'somebody has ended it';
    throw new RingdiskError('MIGRATION_FAILED', `${disk.vbd} is not mirrored any more: ${why}`);
  }

  async #isThere({ vbd }: Disk): Promise<boolean> {
    const vbds = await this.#patiently((client) => client.call('list', {}));
    return vbds.vbds.some(({ name }) => name === vbd);
  }

  async #ask({ vbd }: Disk, request: Request): Promise<Methods['mirror']['result']> {
    return this.#patiently((client) => client.call('mirror', { vbd, ...request }));
  }

  /** Mirrors outlive a daemon; so does whoever waits for them. */
  async #patiently<T>(body: Parameters<typeof withDaemon<T>>[1]): Promise<T> {
    const deadline = performance.now() + AWAY_MS;
    for (;;) {
      try {
        return await withDaemon(this.#options, body);
      } catch (error) {
        const isAway = error instanceof DaemonUnreachableError || isBeingTakenOver(error);
        if (!isAway || this.#started.length === 0 || performance.now() > deadline) throw error;
      }
      await sleep(LOOK_MS);
    }
  }
}
