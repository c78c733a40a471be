// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';
import { someCapabilities } from '../../support/fake_datapath.ts';

const RECORD = 'vbd3-7-51712.json';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
  expect(files()).toEqual([]);
});

function file(name: string): string {
  return path.join(plane.runtimeDir, 'vbds', name);
}

function files(): string[] {
  return readdirSync(path.join(plane.runtimeDir, 'vbds')).sort();
}

/** Connected, and its daemon is gone. */
async function orphan(): Promise<Disk> {
  await plane.start();
  const disk = await plane.attach();
  await disk.connect();
  await plane.kill();
  return disk;
}

function changeRecord(change: (record: Record<string, unknown>) => object): void {
  const record = JSON.parse(readFileSync(file(RECORD), 'utf8'));
  writeFileSync(file(RECORD), JSON.stringify({ ...record, ...change(record) }));
}

describe('a record', () => {
  test('is there while the VBD is connected, for root alone', async () => {
    await plane.start();
    const disk = await plane.attach();
    expect(files()).toEqual([]);
    await disk.connect();
    expect(files()).toEqual([RECORD, 'vbd3-7-51712.queue-0']);
    expect(statSync(file(RECORD)).mode & 0o777).toBe(0o600);
    expect(statSync(file('')).mode & 0o777).toBe(0o700);
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    expect(files()).toEqual([]);
  });

  test('that cannot be written is told of, and the VBD is served', async () => {
    await plane.start();
    rmSync(file(''), { recursive: true });
    const disk = await plane.attach();
    plane.datapath.journals = false;
    await disk.connect();
    expect(plane.lines.map((line) => line.msg)).toContainEqual(
      expect.stringMatching(/cannot be recorded/),
    );
    await plane.end();
    await plane.start();
  });

  test('of a VBD that is gone is removed at start, and what a death left half done', async () => {
    const disk = await orphan();
    writeFileSync(file('vbd3-8-51712.json.new'), '{');
    writeFileSync(file('vbd3-9-51712.queue-3'), 'a journal');
    await disk.deleteBackend();
    await plane.start();
    await eventually(() => files().length === 0, 'no files', files);
  });
});

describe('a VBD whose daemon is gone', () => {
  test('goes on where it was, with what it was promised', async () => {
    const disk = await orphan();
    plane.datapath.capabilities = { ...someCapabilities, capacity: 2 ** 31 };
    await plane.xenstore.write(`${disk.backend}/kthread-pid`, '1');
    await plane.start({ indirectSegmentsMax: 16, queuesMax: 1 });
    await disk.expectOurState('Connected');
    const [before, after] = plane.datapath.connections;
    const queues = before?.options.queues.map((queue) => ({ ...queue, takeOver: true }));
    const sectors = 2 ** 31 / 512;
    expect(after?.options).toEqual({ ...before?.options, queues, sectors });
    expect(after?.target.spec).toEqual(before?.target.spec);
    expect(after?.target.claimed).toEqual({ share: false, takeOver: true });
    expect(await disk.read('state')).toBe('4');
    const grown = async () => (await disk.read('sectors')) === String(2 ** 31 / 512);
    await eventually(grown, 'its size');
    expect(await disk.read('kthread-pid')).toBe(String(process.pid));
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
  });

  test('is not disturbed where nothing is new', async () => {
    const disk = await orphan();
    let changes = 0;
    const watch = await plane.xenstore.watch(`${disk.backend}/state`, () => changes++);
    await plane.start();
    await disk.expectOurState('Connected');
    await quiet();
    // A watch fires once when it is set.
    expect(changes).toBe(1);
    await watch.remove();
  });

  test('is never told that its target shrank', async () => {
    const disk = await orphan();
    plane.datapath.capabilities = { ...someCapabilities, capacity: 1 << 20 };
    await plane.start();
    await disk.expectOurState('Connected');
    await quiet();
    expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
    // Nor are its requests beyond that rejected: their target will say what is wrong with them.
    expect(plane.datapath.connections[1]?.options.sectors).toBe((1 << 30) / 512);
  });

  test('may lose daemon after daemon', async () => {
    const disk = await orphan();
    for (let i = 0; i < 3; i++) {
      await plane.start();
      await disk.expectOurState('Connected');
      await plane.kill();
    }
    await plane.start();
    await disk.expectOurState('Connected');
    expect(plane.datapath.connections).toHaveLength(5);
  });

  test('is waited for while the old process is not quite gone', async () => {
    const disk = await orphan();
    plane.datapath.busyConnects = 3;
    await plane.start();
    await disk.expectOurState('Connected');
  });

  test.each([
    ['the toolstack removes it', (disk: Disk) => disk.remove()],
    ['the frontend closes', (disk: Disk) => disk.writeFrontend({ state: '5' })],
  ])('is taken over before %s', async (_what, step) => {
    const disk = await orphan();
    await step(disk);
    await plane.start();
    await disk.expectState('5');
    await eventually(() => plane.datapath.connections.length === 2, 'a take-over');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
  });

  test.each([
    ['unplugged itself', { state: '6' }, '6'],
    ['started over', { state: '1' }, '2'],
  ])('is not taken over when its guest %s', async (_what, nodes, state) => {
    const disk = await orphan();
    await disk.writeFrontend(nodes);
    await plane.start();
    await disk.expectState(state);
    expect(plane.datapath.connections).toHaveLength(1);
  });

  test('says for how long its writes wait', async () => {
    const disk = await orphan();
    let lift = () => {};
    plane.datapath.fence = new Promise((resolve) => {
      lift = resolve;
    });
    await plane.start();
    await disk.expectOurState('Connected');
    expect(disk.vbd.info().fencedSince).toMatch(/^2.*Z$/);
    lift();
    await eventually(() => disk.vbd.info().fencedSince === undefined, 'no fence');
    const said = plane.lines.map((line) => line.msg).join(' | ');
    expect(said).toMatch(/writes wait until.*writes go on/);
  });
});

describe('a VBD that cannot be taken over', () => {
  test('is left alone until its frontend moves', async () => {
    const disk = await orphan();
    rmSync(file(RECORD));
    await plane.start();
    await disk.expectOurState('Left');
    expect(await disk.read('state')).toBe('4');
    expect(disk.vbd.info().error).toMatch(/waiting for its frontend to reconnect: .* no record/);
    expect(plane.datapath.connections).toHaveLength(1);
    await plane.daemon.stop();
    expect(await disk.read('state')).toBe('4');
    await plane.start();
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await disk.writeFrontend({ state: '1' });
    await disk.connect();
  });

  test.each<[string, RegExp, (disk: Disk) => unknown]>([
    ['other rings', /not the ones/, (disk) => disk.writeFrontend({ 'ring-ref': '31' })],
    ['another port', /not the ones/, (disk) => disk.writeFrontend({ 'event-channel': '31' })],
    ['bad rings', /ring-ref/, (disk) => disk.writeFrontend({ 'ring-ref': '-1' })],
    ['a record that is no JSON', /no JSON/, () => writeFileSync(file(RECORD), '{')],
    ['an empty record', /no JSON/, () => writeFileSync(file(RECORD), '')],
    [
      'a newer record',
      /has version 3, .* reads 1 and 2: start/,
      () => changeRecord(() => ({ version: 3 })),
    ],
    ['a wrong record', /cannot be used: sectors/, () => changeRecord(() => ({ sectors: -1 }))],
    ['no journal', /no .*queue-0/, () => rmSync(file('vbd3-7-51712.queue-0'))],
    [
      'a target that is gone',
      /gone/,
      () => {
        plane.datapath.openError = 'gone';
      },
    ],
    [
      'a journal that does not fit',
      /another ring/,
      () => {
        plane.datapath.connectError = 'the journal is that of another ring';
      },
    ],
    [
      'rings that stay busy',
      /in use/,
      () => {
        plane.datapath.busyConnects = 1000;
      },
    ],
  ])('for %s: nothing is touched, and it says why', async (_what, reason, spoil) => {
    const disk = await orphan();
    await spoil(disk);
    await plane.start();
    await disk.expectOurState('Left');
    await eventually(() => disk.vbd.info().error !== undefined, 'a reason');
    expect(disk.vbd.info().error).toMatch(reason);
    await quiet();
    expect(await disk.read('state')).toBe('4');
    await eventually(() => plane.datapath.held === 0, 'nothing held');
    await plane.daemon.stop();
    expect(await disk.read('state')).toBe('4');
    await plane.start();
    await disk.deleteBackend();
    await eventually(() => files().length === 0, 'no files', files);
  });

  test('does not keep the others from it', async () => {
    const disk = await orphan();
    await plane.start();
    const other = await plane.attach({}, { domid: 8 });
    await other.connect({ ...blkfrontNodes });
    await plane.kill();
    rmSync(file(RECORD));
    await plane.start();
    await other.expectOurState('Connected');
    await disk.expectOurState('Left');
  });
});

test('a daemon that stops closes; one that leaves touches nothing', async () => {
  await plane.start();
  const disk = await plane.attach();
  await disk.connect();
  plane.daemon.leave();
  await quiet();
  expect(await disk.read('state')).toBe('4');
  await plane.kill();
  await plane.start();
  await disk.expectOurState('Connected');
  const stopped = plane.daemon.stop();
  await disk.expectState('5');
  await disk.writeFrontend({ state: '6' });
  await stopped;
  expect(await disk.read('state')).toBe('6');
});
