// SPDX-License-Identifier: Apache-2.0
// Streams between programs, with real ones.
import { describe, expect, it } from 'vitest';
import { startProcess } from '../../../src/zfs/process.ts';
import { pump } from '../../../src/zfs/pump.ts';

const sh = (text: string) => startProcess('sh', ['-c', text]);

function moved(from: string, to: string, more: Partial<Parameters<typeof pump>[2]> = {}) {
  let bytes = 0;
  const onBytes = (count: number) => {
    bytes += count;
  };
  const options = { signal: new AbortController().signal, onBytes, ...more };
  return pump(sh(from), sh(to), options).then(() => bytes);
}

describe('a stream from one program to another', () => {
  it('is whole, and both have ended then', async () => {
    expect(await moved('head -c 3000000 /dev/zero', 'test $(wc -c) = 3000000')).toBe(3_000_000);
  });

  it('fails by what the one that is to blame says', async () => {
    await expect(moved('echo a; echo broken >&2; exit 1', 'cat')).rejects.toThrow(/broken/);
    await expect(moved('cat /dev/zero', 'echo modified >&2; exit 1')).rejects.toThrow(/modified/);
    await expect(moved('echo a', 'cat >/dev/null; echo late >&2; exit 2')).rejects.toThrow(/late/);
    const missing = startProcess('ringdisk-no-such-program', []);
    const options = { signal: new AbortController().signal, onBytes: () => {} };
    await expect(pump(sh('yes'), missing, options)).rejects.toThrow(/ENOENT/);
  });

  it('is ended when it is told to, and when nothing moves', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 100);
    const forever = moved('cat /dev/zero', 'cat', { signal: abort.signal });
    await expect(forever).rejects.toThrow(/was stopped/);
    await expect(moved('sleep 60', 'cat', { silenceMs: 100 })).rejects.toThrow(/nothing has moved/);
    await expect(moved('echo', 'sleep 60', { silenceMs: 100 })).rejects.toThrow(/nothing has mov/);
  });

  it('is no faster than it may be', async () => {
    const began = performance.now();
    await moved('head -c 200000 /dev/zero', 'cat', { rate: 400_000 });
    expect(performance.now() - began).toBeGreaterThan(450);
  });
});
