// SPDX-License-Identifier: Apache-2.0
// What a daemon says to the process that is to serve an image, one line of JSON, and the line that
// it gets back; then it lets it go on. A daemon meets guests: so this says which image, never which
// program.
import * as v from 'valibot';
import { helperRecordSchema, partsSchema } from './helper_record.ts';
import { IMAGE_FORMATS } from './image_spec.ts';

export const LINE_BYTES_MAX = 64 * 1024;

/** The daemon's second line: it listens to what the program will say. */
export const GO_ON = 'go on\n';

export const helperRequestSchema = v.strictObject({
  version: v.literal(1),
  runtimeDir: v.pipe(v.string(), v.startsWith('/')),
  format: v.picklist(IMAGE_FORMATS),
  image: v.pipe(v.string(), v.maxLength(8192)),
  readOnly: v.boolean(),
  /** Another image under that name is not to be served; missing: any. */
  identity: v.optional(v.string()),
  parts: v.optional(partsSchema),
});

export const helperAnswerSchema = v.union([
  v.object({ helper: helperRecordSchema }),
  v.object({ error: v.object({ code: v.string(), message: v.string() }) }),
]);

export type HelperRequest = v.InferOutput<typeof helperRequestSchema>;
export type HelperAnswer = v.InferOutput<typeof helperAnswerSchema>;
