// SPDX-License-Identifier: Apache-2.0
// What a VBD is called.
import type { BackendId } from '../xenstore/paths.ts';

/** Names one backend directory: /local/domain/<backend>/backend/<kind>/<domid>/<devid>. */
export type VbdId = Readonly<BackendId>;

/** "vbd3/5/51712": unique on this daemon. */
export function vbdName(id: VbdId): string {
  return `${id.kind}/${id.domid}/${id.devid}`;
}
