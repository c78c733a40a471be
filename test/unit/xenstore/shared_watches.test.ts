// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import type { XenstoreClient } from '../../../src/xenstore/client.ts';
import { MemoryStore } from '../../../src/xenstore/memory_store.ts';
import { SharedWatches } from '../../../src/xenstore/shared_watches.ts';

const FOLDER = '/local/domain/7/device/vbd';

let store: MemoryStore;
let xenstore: XenstoreClient;
let watches: SharedWatches;
let heard: string[];
beforeEach(() => {
  store = new MemoryStore({ watches: 1 });
  xenstore = store.client(0);
  watches = new SharedWatches(store.client(3));
  heard = [];
});

function follow(disk: number) {
  return watches.follow(FOLDER, `${FOLDER}/${disk}/state`, () => heard.push(String(disk)));
}

async function told(): Promise<string[]> {
  await new Promise((resolve) => setTimeout(resolve, 5));
  // Being told more than once is allowed.
  return [...new Set(heard.splice(0))].sort();
}

async function makeDisk(disk: number): Promise<void> {
  await xenstore.write(`${FOLDER}/${disk}/state`, '1');
  for (const path of [`${FOLDER}/${disk}`, `${FOLDER}/${disk}/state`]) {
    await xenstore.setPermissions(path, [
      { domid: 7, access: 'n' },
      { domid: 3, access: 'r' },
    ]);
  }
}

describe('followers of one folder', () => {
  it('share a watch, and each hears of its own node', async () => {
    await makeDisk(1);
    await makeDisk(2);
    await follow(1);
    await follow(2);
    expect(await told()).toEqual(['1', '2']);
    await xenstore.write(`${FOLDER}/1/state`, '3');
    expect(await told()).toEqual(['1']);
    await xenstore.write(`${FOLDER}/2/other`, '3');
    expect(await told()).toEqual([]);
  });

  it('hear when the folder of their node is removed', async () => {
    await makeDisk(1);
    await makeDisk(2);
    await Promise.all([follow(1), follow(2)]);
    await told();
    await xenstore.remove(`${FOLDER}/2`);
    expect(await told()).toEqual(['2']);
  });

  it('give the watch back with the last of them', async () => {
    const [first, second] = await Promise.all([follow(1), follow(2)]);
    await first.remove();
    const elsewhere = () => watches.follow('/local/domain/8/device/vbd', '/a', () => {});
    await expect(elsewhere()).rejects.toMatchObject({ code: 'EQUOTA' });
    await second.remove();
    await second.remove();
    await elsewhere();
  });

  it('are told of a quota that is used up, and may try again', async () => {
    const other = store.client(3);
    const held = await other.watch('/a', () => {});
    await expect(Promise.all([follow(1), follow(2)])).rejects.toThrow(
      /quota of watches is used up.*xenstore-control quota set watches/,
    );
    await held.remove();
    await follow(1);
    expect(await told()).toEqual(['1']);
  });

  it('hear nothing after they have left', async () => {
    await makeDisk(1);
    const watch = await follow(1);
    await watch.remove();
    await told();
    await xenstore.write(`${FOLDER}/1/state`, '3');
    expect(await told()).toEqual([]);
  });
});
