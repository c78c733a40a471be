// SPDX-License-Identifier: Apache-2.0
// Volumes, snapshots and clones through many random lives, with a manager that dies at any step; on
// a model of ZFS. test/zfs does the like on the real one.
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { openManager } from '../../../src/volume/manager.ts';
import type { VolumeInfo, VolumeManager } from '../../../src/volume/manager_types.ts';
import { ModelZfs } from '../../support/model_zfs.ts';

const log = createLogger({ level: 'silent' });
const pool = 'tank';

/** Alike for all that use the same seed. */
function random(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

interface Known {
  kind: VolumeInfo['kind'];
  content: number;
  of?: string;
}

type World = Map<string, Known>;

/** One call, and what the world is after it. */
interface Deed {
  call: (manager: VolumeManager) => Promise<unknown>;
  after: World;
}

class Life {
  readonly zfs = new ModelZfs(pool);
  world: World = new Map();
  #content = 0;
  #keys = 0;
  readonly #pick: (below: number) => number;

  constructor(pick: (below: number) => number) {
    this.#pick = pick;
  }

  async deed(manager: VolumeManager): Promise<Deed> {
    const after: World = new Map([...this.world].map(([key, known]) => [key, { ...known }]));
    const [key, one] = [...this.world][this.#pick(this.world.size)] ?? [];
    const newKey = `k${++this.#keys}`;
    const action = this.#pick(13);
    if (key === undefined || !one || action === 0) {
      after.set(newKey, { kind: 'volume', content: 0 });
      return { after, call: (m) => m.createVolume({ pool, key: newKey, size: 4096 }) };
    }
    if (action <= 2 && one.kind === 'volume') {
      await this.#write(manager, key, one);
      after.set(key, { ...one });
      after.set(newKey, { kind: 'snapshot', content: one.content, of: key });
      return { after, call: (m) => m.snapshotVolume(pool, key, { key: newKey }) };
    }
    if ((action === 3 || (action < 8 && !one.of)) && one.kind !== 'bookmark') {
      after.set(newKey, { kind: 'volume', content: one.content });
      return { after, call: (m) => m.cloneVolume(pool, key, { key: newKey }) };
    }
    const [by, other] = [...this.world].at(-1) ?? [];
    const areVolumes = one.kind === 'volume' && other?.kind === 'volume';
    if (action === 12 && areVolumes && by !== undefined && by !== key) {
      after.set(key, { kind: 'volume', content: other.content });
      after.delete(by);
      for (const known of after.values()) if (known.of === by) delete known.of;
      return { after, call: (m) => m.replaceVolume(pool, key, by) };
    }
    const volume = one.of === undefined ? undefined : after.get(one.of);
    if (action <= 9 && one.kind === 'snapshot' && one.of !== undefined && volume) {
      const { of } = one;
      volume.content = one.content;
      return { after, call: (m) => m.revertVolume(pool, of, key) };
    }
    after.delete(key);
    return { after, call: (m) => m.destroyVolume(pool, key) };
  }

  async #write(manager: VolumeManager, key: string, known: Known): Promise<void> {
    known.content = ++this.#content;
    this.zfs.write((await manager.statVolume(pool, key)).dataset, known.content);
  }

  /** Whether the world is as `expected`, in all that callers can see. */
  async isAs(manager: VolumeManager, expected: World): Promise<boolean> {
    const told = await manager.listVolumes(pool);
    const keys = told.map(({ key }) => key).sort();
    if (JSON.stringify(keys) !== JSON.stringify([...expected.keys()].sort())) return false;
    return told.every(({ key, kind, dataset }) => {
      const known = expected.get(key);
      return known?.kind === kind && known.content === this.zfs.read(dataset);
    });
  }
}

async function live(seed: number, deaths: boolean): Promise<void> {
  const pick = random(seed);
  const life = new Life(pick);
  let manager = await openManager(log, life.zfs.run);
  for (let turn = 0; turn < 25; turn++) {
    const { call, after } = await life.deed(manager);
    const before = life.world;
    const { run, died } = life.zfs.dyingAt(deaths ? pick(5) : Number.POSITIVE_INFINITY);
    const victim = await openManager(log, run).catch(() => undefined);
    const outcome = await (victim ? call(victim) : Promise.reject(new Error('died'))).catch(
      (error: Error) => error,
    );
    if (outcome instanceof Error && !died()) throw outcome;
    manager = await openManager(log, life.zfs.run);
    const isDone = await life.isAs(manager, after);
    const isUndone = await life.isAs(manager, before);
    expect(isDone || (died() && isUndone), `seed ${seed}, turn ${turn}`).toBe(true);
    life.world = isDone ? after : before;
  }
  await end(life, manager, pick, seed);
}

/** In any order, and nothing may be left. */
async function end(life: Life, manager: VolumeManager, pick: (n: number) => number, seed: number) {
  const keys = [...life.world.keys()];
  while (keys.length > 0) {
    const [key = ''] = keys.splice(pick(keys.length), 1);
    expect(await manager.destroyVolume(pool, key)).toBe(true);
    life.world.delete(key);
    expect(await life.isAs(manager, life.world), `seed ${seed}, without ${key}`).toBe(true);
  }
  expect(life.zfs.names(), `seed ${seed}`).toEqual([]);
}

describe('volumes, snapshots and clones', () => {
  it('may be destroyed in any order, and nothing is left', async () => {
    for (let seed = 1; seed <= 12; seed++) await live(seed, false);
  }, 120_000);

  it('are as before or as after whenever the manager dies', async () => {
    for (let seed = 1000; seed <= 1016; seed++) await live(seed, true);
  }, 120_000);
});
