// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Arc, suggested } from '../../../src/zfs/arc.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** A dom0 of 4 GiB, as ZFS and the kernel tell of it. */
class Dom0 {
  readonly root = temporaryFolder();
  readonly arc = new Arc(this.root);
  readonly conf = path.join(this.root, 'etc/modprobe.d/zz-ringdisk-arc.conf');

  constructor(isLoaded = true) {
    this.write('proc/meminfo', 'MemTotal:        4194304 kB\nMemFree: 1 kB\n');
    mkdirSync(path.join(this.root, 'etc/modprobe.d'), { recursive: true });
    if (isLoaded) this.load(3 * GIB);
  }

  write(file: string, text: string): void {
    const full = path.join(this.root, file);
    mkdirSync(path.dirname(full), { recursive: true });
    writeFileSync(full, text);
  }

  load(limit: number): void {
    this.write('sys/module/zfs/parameters/zfs_arc_max', '0\n');
    this.tell(limit);
  }

  tell(limit: number): void {
    const lines = [
      ['size', 700 * MIB],
      ['c', 2 * GIB],
      ['c_min', 128 * MIB],
      ['c_max', limit],
    ];
    const text = lines.map(([name, value]) => `${String(name).padEnd(32)}4    ${value}`);
    this.write('proc/spl/kstat/zfs/arcstats', `5 1 0x01 3 1 1 1\n${text.join('\n')}\n`);
  }

  get parameter(): number {
    const file = path.join(this.root, 'sys/module/zfs/parameters/zfs_arc_max');
    return Number(readFileSync(file, 'utf8'));
  }

  /** The kernel's part. */
  async taking<T>(doing: Promise<T>): Promise<T> {
    const timer = setInterval(() => this.tell(this.parameter || 3 * GIB), 5);
    try {
      return await doing;
    } finally {
      clearInterval(timer);
    }
  }
}

describe('the limit of the ARC', () => {
  it('is told, with one that would suit', () => {
    expect(new Dom0().arc.read()).toEqual({
      memoryBytes: 4 * GIB,
      suggestedBytes: 1536 * MIB,
      loaded: { sizeBytes: 700 * MIB, limitBytes: 3 * GIB, minimumBytes: 128 * MIB },
      warnings: [],
    });
    expect(suggested(GIB)).toBe(256 * MIB);
    expect(suggested(16 * GIB)).toBe(7680 * MIB);
  });

  it('is set for now and for the next start, and taken back', async () => {
    const dom0 = new Dom0();
    const { arc, conf } = dom0;
    const state = await dom0.taking(arc.set(1536 * MIB));
    expect(state.loaded?.limitBytes).toBe(1536 * MIB);
    expect(state.kept).toEqual({ file: conf, bytes: 1536 * MIB });
    expect(readFileSync(conf, 'utf8')).toMatch(/\noptions zfs zfs_arc_max=1610612736\n$/);
    const again = await dom0.taking(arc.set(512 * MIB));
    expect(again.warnings).toEqual(['It holds 700 MiB, and gives them back as memory is needed.']);
    const undone = await dom0.taking(arc.unset());
    expect(undone.loaded?.limitBytes).toBe(3 * GIB);
    expect(undone.kept).toBeUndefined();
    expect(existsSync(conf)).toBe(false);
    expect((await arc.unset()).warnings).toEqual([]);
  });

  it('is refused where ZFS would ignore it, and said where it has', async () => {
    const dom0 = new Dom0();
    for (const bytes of [0, 32 * MIB, 128 * MIB, 4 * GIB, 5 * GIB, Number.NaN]) {
      await expect(dom0.arc.set(bytes)).rejects.toThrow(/cannot be limited to/);
    }
    expect(existsSync(dom0.conf)).toBe(false);
    await expect(dom0.arc.set(GIB)).rejects.toThrow(/has not taken 1024 MiB/);
  });

  it('is kept also while the module is not loaded', async () => {
    const dom0 = new Dom0(false);
    const state = await dom0.arc.set(GIB);
    expect(state.loaded).toBeUndefined();
    expect(state.kept?.bytes).toBe(GIB);
    dom0.load(GIB);
    expect((await dom0.arc.unset()).warnings.join()).toMatch(/before is not known/);
    expect(existsSync(dom0.conf)).toBe(false);
  });

  it('of other files, and of an initial RAM disk, is told', async () => {
    const dom0 = new Dom0();
    dom0.write('etc/modprobe.d/zfs.conf', '# zfs_arc_max=1\noptions zfs zfs_arc_max=1073741824\n');
    dom0.write('etc/modprobe.d/zzz.conf', 'options zfs zfs_txg_timeout=5 zfs_arc_max=536870912\n');
    dom0.write('usr/share/initramfs-tools/hooks/zfs', '');
    const { warnings } = await dom0.taking(dom0.arc.set(2 * GIB));
    expect(warnings).toHaveLength(3);
    expect(warnings.join()).toMatch(/zfs\.conf sets 1024 MiB\.,.*zzz\.conf sets 512 MiB, and is/);
    expect(warnings[2]).toMatch(/update-initramfs -u/);
  });
});
