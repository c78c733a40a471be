// SPDX-License-Identifier: Apache-2.0
import type { XenstoreClient } from '../xenstore/client.ts';
import { readIfAllowed } from '../xenstore/read_if_allowed.ts';

/**
 * Resolves to the value of `path` (undefined: no such node any more) once `accept` takes it;
 * watches, never polls. Rejects after `timeoutMs`, saying what it waited for, and with whatever
 * `accept` throws.
 */
export async function waitForNode(
  xenstore: XenstoreClient,
  path: string,
  accept: (value: string | undefined) => boolean,
  what: string,
  timeoutMs = 10_000,
): Promise<string | undefined> {
  let check: () => void = () => {};
  const accepted = new Promise<string | undefined>((resolve, reject) => {
    check = () => {
      readIfAllowed(xenstore, path)
        .then((value) => {
          if (accept(value)) resolve(value);
        })
        .catch(reject);
    };
  });
  const watch = await xenstore.watch(path, () => check());
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([accepted, late]);
  } finally {
    clearTimeout(timer);
    await watch.remove();
  }
}
