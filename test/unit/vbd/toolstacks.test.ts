// SPDX-License-Identifier: Apache-2.0
// What toolstacks do to disks beyond attaching them: discs that change, refusals they must learn
// of, devices that are somebody else's, and a host with many of them.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type XenstoreClient, XenstoreError } from '../../../src/xenstore/client.ts';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

/** Makes the daemon's writes to paths that end so fail, until it is told to stop. */
function failWrites(xenstore: XenstoreClient, end: string): { stop(): void; tries(): number } {
  const write = xenstore.write.bind(xenstore);
  let tries = 0;
  xenstore.write = async (path, value) => {
    if (!path.endsWith(end)) return write(path, value);
    tries++;
    throw new XenstoreError('EACCES', `${path}: you may not`);
  };
  return {
    stop: () => {
      xenstore.write = write;
    },
    tries: () => tries,
  };
}

async function reconnect(disk: Disk): Promise<void> {
  for (const state of ['5', '6', '1']) {
    await disk.writeFrontend({ state });
    await disk.expectState(state === '1' ? '2' : state);
  }
  await disk.connect({ ...blkfrontNodes, 'ring-ref': '9' });
}

describe('a disc that is changed while it is in use', () => {
  test.each([
    ['another', 'aio:/iso/b', /asks for "aio:\/iso\/b" while the guest uses "aio:\/iso\/a"/],
    ['none', '', /asks for no disc while the guest uses "aio:\/iso\/a"/],
  ])('%s is told, and there at the next connect', async (_what, params, message) => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/iso/a', 'device-type': 'cdrom', mode: 'r' });
    await disk.connect();
    await disk.writeBackend({ params });
    await eventually(async () => message.test((await disk.readError()) ?? ''), String(message));
    const { target, askedTarget } = disk.vbd.info();
    expect([target?.spec, askedTarget]).toEqual(['aio:/iso/a', params]);
    expect(plane.lines.filter(({ error }) => message.test(String(error)))).toHaveLength(1);
    // The old data is not served under a new name, nor the other way round.
    expect(plane.datapath.connections).toHaveLength(1);
    if (params === '') return;
    await reconnect(disk);
    expect(disk.vbd.info().target?.spec).toBe(params);
    expect(disk.vbd.info().askedTarget).toBeUndefined();
    expect(await disk.readError()).toBeUndefined();
  });

  test.each([
    ['resumes', { 'ring-ref': '9', state: '3' }],
    ['starts over', { 'ring-ref': '9', state: '1' }],
  ])('is there when the guest %s, also after a restart of the daemon', async (_what, nodes) => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/iso/a', 'device-type': 'cdrom', mode: 'r' });
    await disk.connect();
    await disk.writeBackend({ params: 'aio:/iso/b' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await plane.kill();
    await plane.start();
    await disk.expectOurState('Connected');
    expect(disk.vbd.info().target?.spec).toBe('aio:/iso/a');
    await disk.writeFrontend(nodes);
    await eventually(() => disk.vbd.info().target?.spec === 'aio:/iso/b', 'the new disc');
    await disk.writeFrontend({ state: '3' });
    await eventually(() => plane.datapath.connections.length === 3, 'a connection');
    expect(plane.datapath.connections.at(-1)?.target.spec.path).toBe('/iso/b');
    expect(disk.vbd.info().askedTarget).toBeUndefined();
    await eventually(async () => (await disk.readError()) === undefined, 'no error node');
  });

  test('and changed back is forgotten', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/iso/a', 'device-type': 'cdrom' });
    await disk.connect();
    await disk.writeBackend({ params: 'aio:/iso/b' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await disk.writeBackend({ params: 'aio:/iso/a' });
    await eventually(async () => (await disk.readError()) === undefined, 'no error node');
    expect(disk.vbd.info()).not.toHaveProperty('askedTarget');
  });
});

describe('a refusal', () => {
  test('reaches the toolstack even if its error node cannot be written', async () => {
    await plane.start();
    const fault = failWrites(plane.daemonXenstore, '/error');
    const disk = await plane.attach({ params: 'qed:/a' });
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
    expect(await disk.read('hotplug-error')).toMatch(/qed image/);
    expect(fault.tries()).toBe(1);
    fault.stop();
  });

  test('that cannot be published is published later', async () => {
    await plane.start();
    const { daemonXenstore } = plane;
    const transaction = daemonXenstore.transaction.bind(daemonXenstore);
    let faults = 0;
    daemonXenstore.transaction = async (body) => {
      if (faults++ < 3) throw new XenstoreError('EAGAIN', 'busy');
      return transaction(body);
    };
    const disk = await plane.attach({ params: 'qed:/a' });
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
  });

  test('is no error of the device that comes after it', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'qed:/a' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await disk.deleteBackend();
    await eventually(async () => (await disk.readError()) === undefined, 'no error node');
  });

  test('of a daemon that is gone is taken back as well', async () => {
    const disk = await plane.attach();
    await plane.xenstore.write(disk.errorNode, 'said by the one before');
    await plane.start();
    await disk.expectState('2');
    await eventually(async () => (await disk.readError()) === undefined, 'no error node');
  });

  test('and a broken ring, are over when the frontend has new rings', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    plane.datapath.connections[0]?.emit('ring-broken', 0, 'nonsense');
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await disk.writeFrontend({ ...blkfrontNodes, 'ring-ref': '77', state: '3' });
    await eventually(() => plane.datapath.connections.length === 2, 'a second connection');
    await eventually(async () => (await disk.readError()) === undefined, 'no error node');
    expect(disk.vbd.info().error).toBeUndefined();
  });
});

describe('a directory that is removed and made again in one transaction', () => {
  async function makeAnew(disk: Disk): Promise<void> {
    const names = ['frontend', 'frontend-id', 'online', 'dev', 'mode', 'params', 'device-type'];
    const nodes = await Promise.all(names.map(async (name) => [name, await disk.read(name)]));
    await plane.xenstore.transaction(async (requests) => {
      await requests.remove(disk.backend);
      for (const [name, value] of [...nodes, ['state', '1']])
        if (value !== undefined) await requests.write(`${disk.backend}/${name}`, value);
      await requests.write(`${disk.frontend}/state`, '1');
    });
  }

  test('is offered anew', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    await makeAnew(disk);
    await disk.connect();
    expect(await disk.read('multi-queue-max-queues')).toBe('8');
  });

  test.each([
    ['for good', 'qed:/a'],
    ['for now', 'aio:/srv/a'],
  ])('is told again what was refused %s', async (_what, params) => {
    plane.datapath.openError = 'no such file';
    await plane.start();
    const disk = await plane.attach({ params });
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
    await makeAnew(disk);
    await eventually(async () => (await disk.read('hotplug-error')) !== undefined, 'another');
  });
});

describe('devices of the kind qdisk', () => {
  test('are ours where they carry our mark, all others never', async () => {
    await plane.start({ backends: ['vbd3', 'qdisk'] });
    const theirs = await plane.attach({}, { kind: 'qdisk', domid: 5 });
    const ours = await plane.attach({ 'sm-data/ringdisk-id': 'x' }, { kind: 'qdisk', domid: 6 });
    await ours.connect();
    await theirs.writeFrontend({ ...blkfrontNodes, state: '3' });
    await theirs.writeBackend({ state: '2' });
    await quiet();
    expect(await theirs.read('state')).toBe('2');
    expect(await theirs.read('hotplug-status')).toBeUndefined();
    expect(plane.daemon.vbds().map(({ name }) => name)).toEqual(['qdisk/6/51712']);
    await theirs.writeBackend({ online: '0', state: '5' });
    await quiet();
    expect(await theirs.read('state')).toBe('5');
    // Marked later is ours from then on.
    await theirs.writeBackend({ online: '1', state: '1', 'sm-data/ringdisk-id': 'y' });
    await theirs.expectState('4');
  });

  test('are served unmarked where that is forced', async () => {
    await plane.start({ backends: ['qdisk'] }, {}, true);
    await (await plane.attach({}, { kind: 'qdisk' })).connect();
  });

  test('go on with their daemon gone, whatever became of the mark', async () => {
    await plane.start({ backends: ['qdisk'] });
    const disk = await plane.attach({ 'sm-data/ringdisk-id': 'x' }, { kind: 'qdisk' });
    await disk.connect();
    await plane.kill();
    await disk.writeBackend({ 'sm-data/ringdisk-id': undefined });
    await plane.start({ backends: ['qdisk'] });
    await disk.expectOurState('Connected');
  });
});

describe('the end of the daemon', () => {
  test('closes what is just being connected', async () => {
    for (const delay of [0, 1, 2, 4, 8]) {
      await plane.start();
      const disk = await plane.attach({}, { domid: 20 + delay });
      await disk.expectState('2');
      await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
      await new Promise((resolve) => setTimeout(resolve, delay));
      const follow = plane.xenstore.watch(`${disk.backend}/state`, async () => {
        if ((await disk.read('state')) === '5') await disk.writeFrontend({ state: '6' });
      });
      await plane.daemon.stop();
      await (await follow).remove();
      // Closed, or not begun.
      expect(['2', '6']).toContain(await disk.read('state'));
      expect(plane.datapath.held).toBe(0);
    }
    await plane.start();
  });

  test('is not held up by storage that hangs', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    plane.datapath.mayLetGo = () => new Promise(() => {});
    const stopped = plane.daemon.stop();
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await stopped;
    expect(await disk.read('state')).toBe('6');
    expect(plane.daemon.hanging).toEqual(['vbd3/7/51712']);
    await plane.kill();
    plane.datapath.mayLetGo = () => Promise.resolve();
    await plane.start();
  });
});

/** Counts what the daemon reads, in transactions and without. */
function countReads(xenstore: XenstoreClient): { reads: number } {
  const count = { reads: 0 };
  const countOf = (requests: Pick<XenstoreClient, 'read'>) => {
    const read = requests.read.bind(requests);
    requests.read = (path) => {
      count.reads++;
      return read(path);
    };
  };
  countOf(xenstore);
  const transaction = xenstore.transaction.bind(xenstore);
  xenstore.transaction = (body) =>
    transaction((requests) => {
      countOf(requests);
      return body(requests);
    });
  return count;
}

describe('what guests cost xenstore', () => {
  test('one that ends has nobody else looked at', async () => {
    await plane.start();
    const disks: Disk[] = [];
    for (let domid = 1; domid <= 50; domid++) disks.push(await plane.attach({}, { domid }));
    await Promise.all(disks.map((disk) => disk.connect()));
    const [first] = disks as [Disk];
    await first.deleteBackend();
    await eventually(() => plane.daemon.vbds().length === 49, '49 VBDs');
    await quiet();
    const count = countReads(plane.daemonXenstore);
    await plane.xenstore.remove('/local/domain/0/backend/vbd3/1');
    await quiet();
    expect(count.reads).toBe(0);
    await plane.xenstore.remove('/local/domain/0/backend/vbd3/2');
    await eventually(() => plane.daemon.vbds().length === 48, '48 VBDs');
    expect(count.reads).toBeLessThan(30);
  });

  test('one that stays Connected costs a dozen requests a look, with any queues', async () => {
    await plane.start();
    const disk = await plane.attach();
    const queue = (n: number) => ({
      [`queue-${n}/ring-ref`]: String(10 + n),
      [`queue-${n}/event-channel`]: String(20 + n),
    });
    const queues = Object.assign({}, ...[0, 1, 2, 3, 4, 5, 6, 7].map(queue));
    await disk.connect({ ...queues, 'multi-queue-num-queues': '8', protocol: 'x86_64-abi' });
    await quiet();
    const count = countReads(plane.daemonXenstore);
    await disk.writeFrontend({ state: '4' });
    await eventually(() => count.reads > 0, 'a look');
    await quiet();
    expect(count.reads).toBeLessThan(15);
  });

  test('one that says again and again that it is ready costs 600 requests a second', async () => {
    await plane.start();
    const disk = await plane.attach();
    const nodes: Record<string, string> = { 'ring-page-order': '4', protocol: 'x86_64-abi' };
    nodes['multi-queue-num-queues'] = '8';
    for (let queue = 0; queue < 8; queue++) {
      nodes[`queue-${queue}/event-channel`] = String(20 + queue);
      for (let page = 0; page < 16; page++) {
        nodes[`queue-${queue}/ring-ref${page}`] = String(100 + 16 * queue + page);
      }
    }
    await disk.expectState('2');
    await disk.writeFrontend({ ...nodes, state: '3' });
    await disk.expectState('4');
    const count = countReads(plane.daemonXenstore);
    const until = performance.now() + 1000;
    while (performance.now() < until) {
      await disk.writeFrontend({ state: '3' });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    // What it may cost at once, and a second's.
    expect(count.reads).toBeLessThan(1200 + 600 + 300);
  });
});
