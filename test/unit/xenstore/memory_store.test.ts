// SPDX-License-Identifier: Apache-2.0
// What only the in-memory store can show; what every xenstore does is in test/contract/xenstore.ts.
import { beforeEach, describe, expect, it } from 'vitest';
import type { XenstoreClient } from '../../../src/xenstore/client.ts';
import { MemoryStore } from '../../../src/xenstore/memory_store.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

let store: MemoryStore;
let dom0: XenstoreClient;
let guest: XenstoreClient;

beforeEach(async () => {
  store = new MemoryStore();
  dom0 = store.client(0);
  guest = store.client(5);
  await dom0.mkdir('/local/domain/5');
  await dom0.setPermissions('/local/domain/5', [{ domid: 5, access: 'n' }]);
});

describe('permissions', () => {
  it('lets a guest use its own home by relative paths', async () => {
    await guest.write('device/vbd/51712/state', '1');
    expect(await dom0.read('/local/domain/5/device/vbd/51712/state')).toBe('1');
    expect(await guest.directory('device')).toEqual(['vbd']);
  });

  it('makes a guest the owner of what it creates, and keeps the others of the parent', async () => {
    await dom0.setPermissions('/local/domain/5', [
      { domid: 5, access: 'n' },
      { domid: 0, access: 'r' },
    ]);
    await dom0.write('/local/domain/5/a', '');
    await guest.write('a/b', '');
    const expected = [
      { domid: 5, access: 'n' },
      { domid: 0, access: 'r' },
    ];
    expect(await dom0.getPermissions('/local/domain/5/a')).toEqual(expected);
    expect(await dom0.getPermissions('/local/domain/5/a/b')).toEqual(expected);
  });

  it('hides from a guest what it may not read, even whether it exists', async () => {
    await dom0.write('/local/domain/6/secret', 'x');
    await expect(guest.read('/local/domain/6/secret')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.read('/local/domain/6/none')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.directory('/')).rejects.toMatchObject({ code: 'EACCES' });
    expect(await guest.read('none')).toBeUndefined();
  });

  it('refuses a guest writes, removals and new owners outside its own nodes', async () => {
    await dom0.write('/local/domain/0/backend/vbd/5/1/state', '2');
    await dom0.setPermissions('/local/domain/0/backend/vbd/5/1', [
      { domid: 0, access: 'n' },
      { domid: 5, access: 'r' },
    ]);
    const path = '/local/domain/0/backend/vbd/5/1';
    await expect(guest.write(path, '')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.remove(path)).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.setPermissions(path, [{ domid: 5, access: 'n' }])).rejects.toMatchObject({
      code: 'EACCES',
    });
    await guest.write('mine', '');
    await expect(guest.setPermissions('mine', [{ domid: 6, access: 'n' }])).rejects.toMatchObject({
      code: 'EPERM',
    });
    expect(await guest.read(path)).toBe('');
  });

  it('refuses to remove the root and to leave a node without owner', async () => {
    await expect(dom0.remove('/')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(dom0.setPermissions('/local', [])).rejects.toMatchObject({ code: 'EINVAL' });
  });
});

describe('watches', () => {
  it('gives relative paths to a relative watch', async () => {
    const seen: string[] = [];
    await guest.watch('device', (path) => seen.push(path));
    await dom0.write('/local/domain/5/device/vbd/1/state', '1');
    await turn();
    expect(seen).toEqual(['device', 'device/vbd/1/state']);
  });

  it('tells a guest only of nodes that it may read', async () => {
    const seen: string[] = [];
    await guest.watch('/local/domain', (path) => seen.push(path));
    await dom0.write('/local/domain/6/secret', 'x');
    await guest.write('open', 'x');
    await turn();
    expect(seen).toEqual(['/local/domain', '/local/domain/5/open']);
  });

  it('tells of a removed parent with the own path of a node that existed', async () => {
    await dom0.write('/local/domain/5/device/vbd/1/state', '1');
    const seen: string[] = [];
    await dom0.watch('/local/domain/5/device/vbd/1/state', (path) => seen.push(path));
    await dom0.watch('/local/domain/5/device', (path) => seen.push(path));
    await turn();
    seen.length = 0;
    await dom0.remove('/local/domain/5/device');
    await turn();
    expect(seen).toEqual(['/local/domain/5/device/vbd/1/state', '/local/domain/5/device']);
  });

  it('end with the client', async () => {
    const seen: string[] = [];
    await guest.watch('device', (path) => seen.push(path));
    await guest.close();
    await dom0.write('/local/domain/5/device', '1');
    await turn();
    expect(seen).toEqual([]);
    await expect(guest.read('device')).rejects.toMatchObject({ code: 'ECANCELED' });
  });
});

describe('transactions', () => {
  it('conflict over a node that was there, absent, or has gained a child', async () => {
    for (const look of ['a', 'absent', 'folder']) {
      await dom0.write('/t/a', '1');
      await dom0.mkdir('/t/folder');
      await dom0.remove('/t/absent');
      let runs = 0;
      await dom0.transaction(async (requests) => {
        runs++;
        await requests.directory(`/t/${look}`);
        if (runs > 1) return;
        const changed = look === 'folder' ? '/t/folder/child' : `/t/${look}`;
        await dom0.write(changed, '2');
      });
      expect([look, runs]).toEqual([look, 2]);
      await dom0.remove('/t/folder');
    }
  });

  it('give up after 16 conflicts', async () => {
    let runs = 0;
    const conflicting = dom0.transaction(async (requests) => {
      runs++;
      await requests.write('/t', 'mine');
      await dom0.write('/t', String(runs));
    });
    await expect(conflicting).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(runs).toBe(16);
  });

  it('fire no watch when aborted and all of them when committed', async () => {
    const seen: string[] = [];
    await dom0.watch('/t', (path) => seen.push(path));
    const failing = dom0.transaction(async (requests) => {
      await requests.write('/t/a', '1');
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    await dom0.transaction(async (requests) => {
      await requests.write('/t/b', '1');
      await requests.write('/t/b', '2');
      await requests.mkdir('/t/c');
    });
    await turn();
    expect(seen).toEqual(['/t', '/t/b', '/t/c']);
  });
});

it('takes real domain ids only', () => {
  expect(() => store.client(0x7ff0)).toThrow(RangeError);
});
