// SPDX-License-Identifier: Apache-2.0
// The disks of pools, asked by smartctl now and then, one after the other: a disk that hangs costs
// the others a wait, and is not asked again before it has answered.
import type { Logger } from '../log.ts';
import type { RunCommand } from '../zfs/command.ts';
import { isZfsError } from '../zfs/zfs_error.ts';
import { type DiskSmart, isAsleep, parseSmart } from './smart_report.ts';
import { wholeDisks } from './whole_disks.ts';

const ASK_MS = 20_000;
/** Beyond that a controller hangs, and each further disk would only wait for it. */
const HANGING_MAX = 4;
const ARGUMENTS = ['--json=c', '--nocheck=standby', '--info', '--health', '--attributes'];

export class Smart {
  readonly #run: RunCommand;
  readonly #log: Logger;
  readonly #disksOf: typeof wholeDisks;
  /** By disk. */
  readonly #known = new Map<string, DiskSmart>();
  /** Disks, by the pool's device that lies on them. */
  readonly #disks = new Map<string, string[]>();
  #isMissing = false;

  constructor(run: RunCommand, log: Logger, disksOf = wholeDisks) {
    this.#run = run;
    this.#log = log;
    this.#disksOf = disksOf;
  }

  /** What is known of the disks that a device of a pool lies on. */
  of(device: string): DiskSmart[] {
    const disks = this.#disks.get(device) ?? [];
    return disks.flatMap((disk) => this.#known.get(disk) ?? []);
  }

  /** Whether it was among those that were asked last. */
  knows(device: string): boolean {
    return this.#disks.has(device);
  }

  /** Asks them all; those of devices that are no pool's any more are forgotten. */
  async look(devices: readonly string[]): Promise<void> {
    const all = new Set<string>();
    for (const device of [...this.#disks.keys()]) {
      if (!devices.includes(device)) this.#disks.delete(device);
    }
    for (const device of devices) {
      const disks = await this.#disksOf(device);
      this.#disks.set(device, disks);
      for (const disk of disks) all.add(disk);
    }
    for (const disk of [...this.#known.keys()]) if (!all.has(disk)) this.#known.delete(disk);
    let hanging = 0;
    for (const disk of all) {
      if (hanging >= HANGING_MAX) this.#note(disk, 'disks before it do not answer');
      else if (!(await this.#ask(disk))) hanging++;
    }
  }

  /** False: it has not answered. */
  async #ask(disk: string): Promise<boolean> {
    const options = { timeoutMs: ASK_MS, anyStatus: true, slot: `smartctl ${disk}` };
    try {
      const text = await this.#run('smartctl', [...ARGUMENTS, disk], options);
      this.#isMissing = false;
      const told = parseSmart(text, disk, Math.floor(Date.now() / 1000));
      if (isAsleep(told)) this.#note(disk, told.reason ?? '');
      else this.#known.set(disk, told);
    } catch (error) {
      if (isZfsError(error, 'missing')) this.#sayMissing();
      this.#note(disk, (error as Error).message);
      return !isZfsError(error, 'timeout');
    }
    return true;
  }

  /** What was known stays, with its time. */
  #note(disk: string, reason: string): void {
    this.#known.set(disk, { ...this.#known.get(disk), device: disk, reason });
  }

  #sayMissing(): void {
    if (!this.#isMissing) {
      this.#log.info('smartctl is not installed (smartmontools): nothing is known of SMART');
    }
    this.#isMissing = true;
  }
}
