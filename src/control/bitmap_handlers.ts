// SPDX-License-Identifier: Apache-2.0
// The control socket's methods about dirty bitmaps, over the daemon.
import type { BitmapInfo, Medium } from '../bitmaps/bitmaps.ts';
import type { Daemon } from '../daemon.ts';
import { RingdiskError } from '../errors.ts';
import type { BITMAP_METHODS } from './bitmap_methods.ts';
import type { Handlers } from './server.ts';

export function bitmapHandlers(daemon: Daemon): Pick<Handlers, keyof typeof BITMAP_METHODS> {
  const { bitmaps } = daemon;
  const mediumOf = (vbd: string) => mediumNamed(daemon, vbd);
  const told = async (changed: Promise<BitmapInfo>) => ({ bitmap: { ...(await changed) } });
  return {
    bitmapAdd: async ({ vbd, name, ...options }) => told(bitmaps.add(mediumOf(vbd), name, options)),
    bitmapList: async ({ vbd }) => {
      const medium = mediumOf(vbd);
      return { size: medium.capacity, bitmaps: bitmaps.list(medium) };
    },
    bitmapEnable: async ({ vbd, name }) => told(bitmaps.enable(mediumOf(vbd), name)),
    bitmapDisable: async ({ vbd, name }) => told(bitmaps.disable(mediumOf(vbd), name)),
    bitmapClear: async ({ vbd, name }) => told(bitmaps.clear(mediumOf(vbd), name)),
    bitmapMerge: async ({ vbd, name, from }) => told(bitmaps.merge(mediumOf(vbd), name, from)),
    bitmapRemove: async ({ vbd, name }) => {
      await bitmaps.remove(mediumOf(vbd), name);
      return {};
    },
    bitmapExtents: async ({ vbd, name, from }) => {
      const medium = mediumOf(vbd);
      const { info: bitmap, extents, next } = bitmaps.extents(medium, name, from);
      const more = next === undefined ? {} : { next };
      return { bitmap, size: medium.capacity, extents: [...extents], ...more };
    },
    bitmapBits: async ({ vbd, name, from }) => {
      const { bits, next } = bitmaps.raw(mediumOf(vbd), name, from);
      return { bits: bits.toString('base64'), ...(next !== undefined && { next }) };
    },
  };
}

/** What a VBD has open. Throws VBD_UNKNOWN, VBD_NOT_READY or BITMAP_REFUSED. */
function mediumNamed(daemon: Daemon, vbd: string): Medium {
  const { name, target } = daemon.find(vbd).info();
  if (!target) {
    throw new RingdiskError(
      'VBD_NOT_READY',
      `${name} has no open target, and bitmaps are those of a target that is open.`,
    );
  }
  const { identity, capacity } = target.capabilities;
  if (identity !== '') return { identity, capacity };
  throw new RingdiskError(
    'BITMAP_REFUSED',
    `The target of ${name} keeps nothing, so nothing of it changes.`,
  );
}

/** For `show`; undefined: there are none. */
export function bitmapsOf(daemon: Daemon, medium: Medium | undefined): BitmapInfo[] | undefined {
  const found = medium && medium.identity !== '' ? daemon.bitmaps.list(medium) : [];
  return found.length > 0 ? found : undefined;
}
