// SPDX-License-Identifier: Apache-2.0
// XAPI calls for one volume as often at a time as it likes: changes are carried out one by one, in
// the order of asking; whoever only looks, and whoever asks for another volume, waits for nobody.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { Disks } from '../../../src/smapi/disks.ts';
import { Smapi } from '../../../src/smapi/smapi.ts';
import { uriOf } from '../../../src/smapi/uri.ts';
import type { VolumeManager } from '../../../src/volume/manager_types.ts';
import { FileVolumes } from '../../support/file_volumes.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const SR = 'tank';
const CHANGES = /^(setVolumeMetadata|resizeVolume|snapshotVolume|cloneVolume|revertVolume)$/;

/** What is under way of each volume, and what has been. */
class Watched {
  readonly running = new Map<string, number>();
  readonly order: string[] = [];
  most = 0;
  mostOfOne = 0;

  async run<T>(what: string, key: string, step: () => Promise<T>): Promise<T> {
    this.running.set(key, (this.running.get(key) ?? 0) + 1);
    this.order.push(`${key} ${what}`);
    const counts = [...this.running.values()];
    this.mostOfOne = Math.max(this.mostOfOne, ...counts);
    this.most = Math.max(
      this.most,
      counts.reduce((sum, count) => sum + count, 0),
    );
    await sleep(5);
    try {
      return await step();
    } finally {
      this.running.set(key, (this.running.get(key) ?? 1) - 1);
    }
  }
}

let watched: Watched;
let smapi: Smapi;
let volumes: FileVolumes;
beforeEach(async () => {
  const folder = temporaryFolder();
  volumes = new FileVolumes(folder);
  watched = new Watched();
  const manager = new Proxy(volumes.asManager(), {
    get: (target, name) => {
      const method = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>;
      if (!CHANGES.test(String(name))) return method.bind(target);
      return (...args: unknown[]) => {
        const what = JSON.stringify(args.slice(2));
        return watched.run(what, String(args[1]), () => method.apply(target, args));
      };
    },
  }) satisfies VolumeManager;
  const log = createLogger({ level: 'silent' });
  const places = { runtimeDir: folder, daemonRuntimeDir: path.join(folder, 'none') };
  smapi = new Smapi({ manager, ...places, log }, new Disks(folder));
  const disk = path.join(folder, 'sdb');
  writeFileSync(disk, '');
  await volumes.createPool({ pool: SR, layout: 'stripe', disks: [disk] });
  for (const key of ['a', 'b', 'c']) await volumes.createVolume({ pool: SR, key, size: 65536 });
});

async function call(method: string, params: object): Promise<unknown> {
  const kind = method.startsWith('Data') ? 'datapath/ringdisk' : 'volume/x';
  const text = JSON.stringify({ dbg: 'd', ...params });
  const answer = await smapi.answer({ script: `/${kind}/${method}`, style: 'json', text });
  if (answer.status === 1) throw new Error(answer.text);
  return JSON.parse(answer.text);
}

test('changes of one volume never meet, and come in the order of asking', async () => {
  const calls = Array.from({ length: 60 }, (_, n) => {
    const key = 'abc'[n % 3] ?? 'a';
    return call('Volume.set', { sr: SR, key, k: `k${n}`, v: String(n) });
  });
  await Promise.all(calls);
  expect(watched.mostOfOne).toBe(1);
  expect(watched.most).toBe(3);
  const ofA = watched.order.filter((one) => one.startsWith('a '));
  const asked = Array.from({ length: 20 }, (_, n) => `a [{"keys":{"k${n * 3}":"${n * 3}"}}]`);
  expect(ofA).toEqual(asked);
  // And nothing was lost on the way.
  expect(Object.keys((await volumes.statVolume(SR, 'a')).keys)).toHaveLength(20);
});

test('calls about two volumes wait for both, in any order, and meet in no ring', async () => {
  const { key: s1 } = await volumes.snapshotVolume(SR, 'a');
  const { key: s2 } = await volumes.snapshotVolume(SR, 'b');
  const calls = Array.from({ length: 10 }, () => [
    call('Volume.revert', { sr: SR, key: 'a', snapshot: s1 }),
    call('Volume.clone', { sr: SR, key: s1 }),
    call('Volume.revert', { sr: SR, key: 'b', snapshot: s2 }),
    call('Volume.snapshot', { sr: SR, key: 'a' }),
    call('Volume.resize', { sr: SR, key: 'b', new_size: 65536 }),
  ]).flat();
  await Promise.all(calls);
  expect(watched.mostOfOne).toBe(1);
});

test('a disk’s way to its guest counts as its volume, under any spelling', async () => {
  const uri = uriOf({ sr: SR, key: 'a' });
  const set = call('Volume.set', { sr: SR, key: 'a', k: 'k', v: 'v' });
  const opened = call('Datapath.open', {
    uri: uri.replace('ringdisk', 'RINGDISK'),
    persistent: false,
  });
  const later = call('Volume.set', { sr: SR, key: 'a', k: 'k', v: 'w' });
  await Promise.all([set, opened, later]);
  expect(watched.mostOfOne).toBe(1);
  expect(watched.order.map((one) => one.replace(/ringdisk-transient-of/, 'clone'))).toEqual([
    'a [{"keys":{"k":"v"}}]',
    'a [{"keys":{"clone":"a"}}]',
    'a [{"keys":{"k":"w"}}]',
  ]);
});

test('whoever looks waits for nobody, and one that fails holds up nobody', async () => {
  let end = () => {};
  const held = new Promise<void>((resolve) => {
    end = resolve;
  });
  const resize = volumes.resizeVolume.bind(volumes);
  volumes.resizeVolume = async (...args) => {
    await held;
    return resize(...args);
  };
  const hangs = call('Volume.resize', { sr: SR, key: 'a', new_size: 131072 });
  await sleep(20);
  expect(await call('Volume.stat', { sr: SR, key: 'a' })).toMatchObject({ virtual_size: 65536 });
  expect(await call('SR.ls', { sr: SR })).toHaveLength(3);
  const fails = call('Volume.resize', { sr: SR, key: 'a', new_size: 1 });
  const after = call('Volume.set', { sr: SR, key: 'a', k: 'k', v: 'v' });
  end();
  await hangs;
  await expect(fails).rejects.toThrow(/SR_BACKEND_FAILURE_79/);
  await after;
});
