// SPDX-License-Identifier: Apache-2.0
import { XenstoreError, type XenstoreRequests } from './client.ts';

/**
 * A node below another domain's folder; undefined where it is gone. Once the folder itself is gone,
 * the permissions of what is left above it count, which are not for us, and xenstored says EACCES
 * instead of ENOENT. A node that its owner hides from us is no different: there is nothing in it.
 */
export async function readIfAllowed(
  requests: Pick<XenstoreRequests, 'read'>,
  path: string,
): Promise<string | undefined> {
  try {
    return await requests.read(path);
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'EACCES') return undefined;
    throw error;
  }
}
