// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Locks } from '../../../src/volume/locks.ts';

describe('turns', () => {
  it('never have two that are in each other way, and all get one', async () => {
    const asked = fc.record({
      pool: fc.constantFrom('p', 'q'),
      key: fc.constantFrom('', 'a', 'b'),
      fails: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(asked, { maxLength: 12 }), fc.scheduler(), async (list, s) => {
        const locks = new Locks();
        const running: { pool: string; key: string }[] = [];
        let done = 0;
        const turns = list.map(({ pool, key, fails }) => {
          const body = async () => {
            const meets = running.filter(
              (one) => one.pool === pool && (one.key === '' || key === '' || one.key === key),
            );
            expect(meets).toEqual([]);
            const me = { pool, key };
            running.push(me);
            await s.schedule(Promise.resolve());
            running.splice(running.indexOf(me), 1);
            done++;
            if (fails) throw new Error('on purpose');
          };
          return key === '' ? locks.pool(pool, body) : locks.volume(pool, key, body);
        });
        const settled = Promise.allSettled(turns);
        await s.waitFor(settled);
        expect(done).toBe(list.length);
      }),
    );
  });

  it('come in the order of asking where it matters', async () => {
    const locks = new Locks();
    const order: string[] = [];
    const note = (name: string) => async () => {
      order.push(name);
      await new Promise((resolve) => setTimeout(resolve, 1));
    };
    await Promise.all([
      locks.volume('p', 'a', note('a1')),
      locks.pool('p', note('pool')),
      locks.volume('p', 'b', note('b')),
      locks.volume('p', 'a', note('a2')),
    ]);
    expect(order.slice(0, 2)).toEqual(['a1', 'pool']);
    expect(order.slice(2).sort()).toEqual(['a2', 'b']);
  });
});
