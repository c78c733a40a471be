// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/xenstore/memory_store.ts';
import { readOwnDomid } from '../../../src/xenstore/own_domid.ts';

const isDom0 = () => true;
const isOther = () => false;

async function storeWith(home: string, domid?: string): Promise<MemoryStore> {
  const store = new MemoryStore();
  const dom0 = store.client(0);
  await dom0.mkdir(home);
  if (domid === undefined) return store;
  await dom0.write(`${home}/domid`, domid);
  await dom0.setPermissions(`${home}/domid`, [
    { domid: 0, access: 'n' },
    { domid: 3, access: 'r' },
  ]);
  return store;
}

describe('the own domain', () => {
  it('is what its home says', async () => {
    const store = await storeWith('/local/domain/3', '3');
    expect(await readOwnDomid(store.client(3), isOther)).toBe(3);
  });

  it('is dom0 where that has no such node', async () => {
    const store = await storeWith('/local/domain/0');
    expect(await readOwnDomid(store.client(0), isDom0)).toBe(0);
  });

  it.each([
    ['missing, or not for us to read', undefined],
    ['nonsense', 'three'],
  ])('is not guessed in a driver domain where it is %s', async (_what, domid) => {
    const store = await storeWith('/local/domain/3', domid);
    await expect(readOwnDomid(store.client(3), isOther)).rejects.toThrow(/own number is/);
  });
});
