// SPDX-License-Identifier: Apache-2.0
// The control socket's methods about dirty bitmaps; see protocol.ts.
import * as v from 'valibot';

export const vbdName = v.pipe(v.string(), v.maxLength(64, 'a name has at most 64 characters'));
export const bitmapName = v.pipe(v.string(), v.maxLength(64, 'a name has at most 64 characters'));
const place = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const oneBitmap = v.object({ vbd: vbdName, name: bitmapName });

/** One bitmap: BitmapInfo of src/bitmaps/bitmaps.ts as it travels. Sizes in bytes. */
export const BitmapSchema = v.object({
  name: v.string(),
  state: v.string(),
  granularity: v.number(),
  dirtyBytes: v.number(),
  exported: v.boolean(),
  error: v.optional(v.string()),
});
const changed = v.object({ bitmap: BitmapSchema });

export const BITMAP_METHODS = {
  bitmapAdd: {
    params: v.object({
      vbd: vbdName,
      name: bitmapName,
      granularity: v.optional(v.number()),
      disabled: v.optional(v.boolean()),
    }),
    result: changed,
  },
  bitmapList: {
    params: v.object({ vbd: vbdName }),
    result: v.object({ size: v.number(), bitmaps: v.array(BitmapSchema) }),
  },
  bitmapEnable: { params: oneBitmap, result: changed },
  bitmapDisable: { params: oneBitmap, result: changed },
  bitmapClear: { params: oneBitmap, result: changed },
  /** What is marked in `from` is marked in `name` as well. */
  bitmapMerge: {
    params: v.object({ vbd: vbdName, name: bitmapName, from: bitmapName }),
    result: changed,
  },
  bitmapRemove: { params: oneBitmap, result: v.object({}) },
  /** What has changed, from byte `from` of the disk on; `next` is where to go on, until all is. */
  bitmapExtents: {
    params: v.object({ vbd: vbdName, name: bitmapName, from: place }),
    result: v.object({
      bitmap: BitmapSchema,
      size: v.number(),
      extents: v.array(v.object({ offset: v.number(), length: v.number() })),
      next: v.optional(v.number()),
    }),
  },
  /** The bits, in base64, from byte `from` of them on, a multiple of 8. */
  bitmapBits: {
    params: v.object({ vbd: vbdName, name: bitmapName, from: v.pipe(place, v.multipleOf(8)) }),
    result: v.object({ bits: v.string(), next: v.optional(v.number()) }),
  },
} as const;
