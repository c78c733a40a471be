// SPDX-License-Identifier: Apache-2.0
// Whoever dies when, a bitmap that is there and records has all that was written since it came.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bitmaps, type Media } from '../../../src/bitmaps/bitmaps.ts';
import { native } from '../../../src/datapath/binding.ts';
import { createLogger } from '../../../src/log.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const MEDIUM = { identity: 'a file', capacity: 1 << 30 };
const log = createLogger({ level: 'silent' });

let folder: string;
let media: FakeMedia;
let bitmaps: Bitmaps;
beforeEach(() => {
  folder = temporaryFolder();
  media = new FakeMedia();
  bitmaps = new Bitmaps(folder, media, log);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Who writes: it marks files, whatever they are called. */
class Writer {
  inodes = new Set<number>();
  fails = false;

  async track(paths: readonly string[]): Promise<void> {
    expectComplete(media);
    if (this.fails) throw new Error('no memory');
    // It is so a little later.
    await Promise.resolve();
    this.inodes = new Set(paths.map((one) => statSync(one).ino));
    expectComplete(media);
  }
}

class FakeMedia implements Media {
  writing = [new Writer(), new Writer()];
  held = true;
  others: string[] = [];
  writers = () => this.writing;
  isHeld = () => this.held;
  otherNames = () => this.others;
}

function recording(): string[] {
  const place = path.join(folder, 'bitmaps');
  const files = readdirSync(place).filter((file) => !file.startsWith('new-'));
  const whole = files.map((file) => path.join(place, file));
  return whole.filter((file) => native.lookAtBitmap(file, 0).state === 'recording');
}

/** As a daemon that comes next would find it: each file that records is marked by all. */
function expectComplete({ writing }: FakeMedia): void {
  for (const file of recording()) {
    const { ino } = statSync(file);
    expect(writing.map(({ inodes }) => inodes.has(ino))).toEqual(writing.map(() => true));
  }
}

describe('a bitmap that is there', () => {
  it('is complete at every step of everything that is done with it', async () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    const names = ['a', 'b', 'c', 'd'];
    const pick = () => names[random(names.length)] ?? 'a';
    const steps = [
      () => bitmaps.add(MEDIUM, pick(), { disabled: random(3) === 0 }),
      () => bitmaps.clear(MEDIUM, pick()),
      () => bitmaps.enable(MEDIUM, pick()),
      () => bitmaps.disable(MEDIUM, pick()),
      () => bitmaps.merge(MEDIUM, pick(), pick()),
      () => bitmaps.remove(MEDIUM, pick()),
    ];
    let done = 0;
    for (let round = 0; round < 150; round++) {
      // Several at once: one after the other.
      const some = Array.from({ length: 3 }, () => steps[random(steps.length)]?.());
      const settled = await Promise.allSettled(some);
      done += settled.filter(({ status }) => status === 'fulfilled').length;
      expectComplete(media);
    }
    expect(done).toBeGreaterThan(100);
  });

  it('is none where somebody who writes cannot mark it', async () => {
    await bitmaps.add(MEDIUM, 'a');
    const [, second] = media.writing;
    if (second) second.fails = true;
    await expect(bitmaps.add(MEDIUM, 'b')).rejects.toThrow('no memory');
    await expect(bitmaps.clear(MEDIUM, 'a')).rejects.toThrow('no memory');
    expect(bitmaps.list(MEDIUM).map(({ name }) => name)).toEqual(['a']);
    expectComplete(media);
  });

  it('is inconsistent once its medium was let go of', async () => {
    await bitmaps.add(MEDIUM, 'a');
    await bitmaps.add(MEDIUM, 'b', { disabled: true });
    bitmaps.released(MEDIUM.identity);
    const states = () => bitmaps.list(MEDIUM).map(({ state }) => state);
    expect(states()).toEqual(['inconsistent', 'disabled']);
    await expect(bitmaps.enable(MEDIUM, 'a')).rejects.toThrow('inconsistent');
    expect(bitmaps.extents(MEDIUM, 'a', 0).extents).toEqual([
      { offset: 0, length: MEDIUM.capacity },
    ]);
    await bitmaps.clear(MEDIUM, 'a');
    expect(states()).toEqual(['recording', 'disabled']);
  });

  it('is gone on with by the next daemon only where the disk is', async () => {
    await bitmaps.add(MEDIUM, 'a');
    const next = new Bitmaps(folder, media, log);
    next.begin();
    expect(next.list(MEDIUM)[0]?.state).toBe('recording');
    media.held = false;
    new Bitmaps(folder, media, log).begin();
    expect(next.list(MEDIUM)[0]?.state).toBe('inconsistent');
  });

  it('is inconsistent once its medium is open under another name', async () => {
    await bitmaps.add(MEDIUM, 'a');
    media.others = ['a loop device'];
    await bitmaps.opened(MEDIUM.identity, new Writer());
    expect(bitmaps.list(MEDIUM)[0]?.state).toBe('inconsistent');
    await expect(bitmaps.add(MEDIUM, 'b')).rejects.toThrow('a loop device');
  });
});

describe('a new writer', () => {
  it('marks what records before it writes, and has nothing to do where there is none', async () => {
    const writer = new Writer();
    expect(bitmaps.opened(MEDIUM.identity, writer)).toBeUndefined();
    await bitmaps.add(MEDIUM, 'a');
    await bitmaps.add(MEDIUM, 'b', { disabled: true });
    await bitmaps.opened(MEDIUM.identity, writer);
    expect(writer.inodes.size).toBe(1);
    media.writing.push(writer);
    expectComplete(media);
  });

  it('that cannot makes them inconsistent, and is not kept from its disk', async () => {
    await bitmaps.add(MEDIUM, 'a');
    const writer = new Writer();
    writer.fails = true;
    await bitmaps.opened(MEDIUM.identity, writer);
    expect(bitmaps.list(MEDIUM)[0]?.state).toBe('inconsistent');
  });
});

describe('a death', () => {
  it('in the middle of a new one leaves nothing', async () => {
    const place = path.join(folder, 'bitmaps');
    mkdirSync(place);
    writeFileSync(path.join(place, 'new-0123.a'), 'unfinished');
    bitmaps.begin();
    expect(readdirSync(place)).toEqual([]);
  });
});

describe('a dump', () => {
  it('tells a long list some at a time, and the same bits', async () => {
    await bitmaps.add(MEDIUM, 'a', { granularity: 4096 });
    const file = bitmaps.pin(MEDIUM, 'a').path;
    // What an odd bitmap has, another one gets: every second chunk of the first 4000.
    const odd = path.join(folder, 'odd');
    const chunks = MEDIUM.capacity / 4096;
    native.createBitmap(odd, MEDIUM.capacity, 4096, '', 'disabled');
    const bits = Buffer.alloc(chunks / 8);
    bits.fill(0x55, 0, 500);
    const header = Buffer.alloc(4096);
    const { openSync, readSync, writeSync, closeSync } = await import('node:fs');
    const fd = openSync(odd, 'r+');
    readSync(fd, header, 0, 4096, 0);
    writeSync(fd, bits, 0, bits.length, 4096);
    closeSync(fd);
    native.mergeBitmap(file, odd);
    let from: number | undefined = 0;
    const extents = [];
    while (from !== undefined) {
      const part: ReturnType<Bitmaps['extents']> = bitmaps.extents(MEDIUM, 'a', from);
      expect(part.extents.length).toBeLessThanOrEqual(1000);
      extents.push(...part.extents);
      from = part.next;
    }
    expect(extents).toHaveLength(2000);
    expect(extents[1]).toEqual({ offset: 8192, length: 4096 });
    const parts = [];
    for (let at: number | undefined = 0; at !== undefined; ) {
      const part: ReturnType<Bitmaps['raw']> = bitmaps.raw(MEDIUM, 'a', at);
      parts.push(part.bits);
      at = part.next;
    }
    expect(Buffer.concat(parts).equals(bits)).toBe(true);
  });

  it('has what the disk has grown by', async () => {
    await bitmaps.add(MEDIUM, 'a');
    const grown = { ...MEDIUM, capacity: MEDIUM.capacity + 3 * 65536 };
    expect(bitmaps.extents(grown, 'a', 0).extents).toEqual([
      { offset: MEDIUM.capacity, length: 3 * 65536 },
    ]);
    const { bits } = bitmaps.raw(grown, 'a', 0);
    expect(bits.length).toBe((1 << 14) / 8 + 1);
    expect(bits.at(-1)).toBe(7);
    expect(bits.at(-2)).toBe(0);
  });
});
