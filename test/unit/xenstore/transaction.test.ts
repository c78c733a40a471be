// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { XenstoreError, type XenstoreRequests } from '../../../src/xenstore/client.ts';
import {
  runTransaction,
  TransactionGate,
  transactionsOpenMax,
} from '../../../src/xenstore/transaction.ts';

const requests = {} as XenstoreRequests;

it('throws what the body threw though the abort fails as well', async () => {
  const start = async () => ({
    requests,
    end: async () => {
      throw new XenstoreError('ECONNRESET', 'gone');
    },
  });
  const attempt = runTransaction(new TransactionGate(), start, async () => {
    throw new Error('the reason');
  });
  await expect(attempt).rejects.toThrow('the reason');
});

it('tries again for EAGAIN only', async () => {
  const codes = ['EAGAIN', 'EAGAIN', 'ENOSPC'];
  let starts = 0;
  const start = async () => ({
    requests,
    end: async () => {
      throw new XenstoreError(codes[starts++] ?? 'EIO', 'no');
    },
  });
  await expect(runTransaction(new TransactionGate(), start, async () => 1)).rejects.toMatchObject({
    code: 'ENOSPC',
  });
  expect(starts).toBe(3);
});

it('has few open at a time, whatever becomes of them', async () => {
  const gate = new TransactionGate();
  let open = 0;
  let mostOpen = 0;
  const start = async () => {
    open++;
    mostOpen = Math.max(mostOpen, open);
    return {
      requests,
      end: async () => {
        open--;
      },
    };
  };
  const attempts = Array.from({ length: 40 }, (_, index) =>
    runTransaction(gate, start, async () => {
      await new Promise((resolve) => setImmediate(resolve));
      if (index % 3 === 0) throw new Error('no');
      return index;
    }),
  );
  const results = await Promise.allSettled(attempts);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(26);
  expect(mostOpen).toBe(transactionsOpenMax);
  expect(open).toBe(0);
});
