// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { XenstoreError, type XenstoreRequests } from '../../../src/xenstore/client.ts';
import { runTransaction } from '../../../src/xenstore/transaction.ts';

const requests = {} as XenstoreRequests;

it('throws what the body threw though the abort fails as well', async () => {
  const start = async () => ({
    requests,
    end: async () => {
      throw new XenstoreError('ECONNRESET', 'gone');
    },
  });
  const attempt = runTransaction(start, async () => {
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
  await expect(runTransaction(start, async () => 1)).rejects.toMatchObject({ code: 'ENOSPC' });
  expect(starts).toBe(3);
});
