// SPDX-License-Identifier: Apache-2.0
// SMAPIv3 as its callers write and read it: every method's parameters, in the order in which they
// come without names, and its result. A result must please two readers, XAPI's daemon and the
// stricter checker of its Python library; where only one of them takes something, it is refused.
import * as v from 'valibot';

const text = v.string();
const flag = v.boolean();
/** A list is an object to JavaScript, and to nobody else. */
const strings = v.pipe(
  v.custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value)),
  v.record(v.string(), v.string()),
);

/** int64 at the other end; ours are exact up to 2^53. */
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** With names it is a number, without names its digits. */
const sizeParam = v.union([
  v.number(),
  v.pipe(
    v.string(),
    v.regex(/^-?\d{1,19}$/),
    v.transform((digits) => Number(digits)),
  ),
]);
const flagParam = v.union([
  v.boolean(),
  v.pipe(
    v.picklist(['true', 'false', 'True', 'False']),
    v.transform((word) => word.toLowerCase() === 'true'),
  ),
]);

/** ["Tag", payload], the tag spelt so. */
function variant<const Tag extends string, Payload extends v.GenericSchema>(
  tag: Tag,
  payload: Payload,
) {
  return v.strictTuple([v.literal(tag), payload]);
}

const HEALTHS = ['Healthy', 'Recovering', 'Unreachable', 'Unavailable'] as const;

export const SrStatSchema = v.strictObject({
  sr: text,
  name: text,
  uuid: v.optional(text),
  description: text,
  free_space: bytes,
  total_space: bytes,
  /** XAPI's daemon registers what stands here with rrdd, and hangs for ever in that. */
  datasources: v.pipe(v.array(text), v.length(0)),
  clustered: flag,
  health: v.union(HEALTHS.map((state) => variant(state, text))),
});

export const VolumeSchema = v.strictObject({
  key: v.pipe(text, v.minLength(1)),
  uuid: v.optional(text),
  name: text,
  description: text,
  read_write: flag,
  sharable: flag,
  virtual_size: bytes,
  physical_utilisation: bytes,
  uri: v.pipe(v.array(text), v.minLength(1)),
  /** With another word for is_a_snapshot the caller sees garbage instead of an error. */
  keys: v.pipe(
    strings,
    v.check(({ is_a_snapshot: word = 'true' }) => word === 'true' || word === 'false'),
  ),
  cbt_enabled: flag,
});

const ProbeResultSchema = v.pipe(
  v.strictObject({
    configuration: strings,
    complete: flag,
    sr: v.optional(SrStatSchema),
    extra_info: strings,
  }),
  v.check(
    ({ configuration, complete, sr }) =>
      configuration['sr_uuid'] === undefined ? sr === undefined : complete,
    'one with sr_uuid is complete, and an sr has one',
  ),
);

const QuerySchema = v.strictObject({
  plugin: text,
  name: text,
  description: text,
  vendor: text,
  copyright: text,
  version: text,
  /** Of a datapath plugin only 5.0 and an old one are taken. */
  required_api_version: v.literal('5.0'),
  features: v.array(text),
  configuration: strings,
  required_cluster_stack: v.array(text),
});

/** As XAPI parses it, which knows no other way to say where an export is. */
const NBD_URI = /^nbd:unix:\/[^:]*:exportname=[^:]+$/;

const ImplementationSchema = v.union([
  variant('XenDisk', v.strictObject({ params: text, extra: strings, backend_type: text })),
  variant('Nbd', v.strictObject({ uri: v.pipe(text, v.regex(NBD_URI)) })),
]);

const BackendSchema = v.pipe(
  v.strictObject({ implementations: v.array(ImplementationSchema) }),
  v.check(
    ({ implementations }) => implementations.some(([tag]) => tag === 'XenDisk'),
    'without a XenDisk no guest gets the disk',
  ),
);

const OPERATION_TAGS = ['CopyV1', 'MirrorV1'] as const;
const OperationSchema = v.union(OPERATION_TAGS.map((tag) => variant(tag, text)));

const StatusSchema = v.strictObject({
  failed: flag,
  complete: flag,
  /** One reader wants a float: a whole number, as JSON writes it here, is none. */
  progress: v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(1))),
});

const ChangedBlocksSchema = v.strictObject({
  /** It gets lost on the way to whoever asked, who counts on this. */
  granularity: v.literal(64 * 1024),
  bitmap: v.pipe(
    text,
    v.base64(),
    v.check((base64) => Buffer.from(base64, 'base64').length % 4 === 0),
  ),
});

const unit = v.null();

/** The caller's own word for its call, and nothing to be read: with tracing it has two lines. */
const dbg = text;
const sr = text;
const key = text;
const uri = text;
const domain = text;
const ofVolume = { dbg, sr, key };
const ofDisk = { dbg, uri, domain };

function method<Params extends v.ObjectEntries, Result extends v.GenericSchema>(
  params: Params,
  result: Result,
) {
  return { params: v.object(params), result };
}

const PLUGIN_METHODS = {
  'Plugin.query': method({ dbg }, QuerySchema),
  'Plugin.diagnostics': method({ dbg }, text),
  'Plugin.ls': method({ dbg }, v.array(text)),
} as const;

export const VOLUME_METHODS = {
  ...PLUGIN_METHODS,
  'SR.probe': method({ dbg, configuration: strings }, v.array(ProbeResultSchema)),
  'SR.create': method(
    { dbg, uuid: text, configuration: strings, name: text, description: text },
    strings,
  ),
  'SR.attach': method({ dbg, configuration: strings }, text),
  'SR.detach': method({ dbg, sr }, unit),
  'SR.destroy': method({ dbg, sr }, unit),
  'SR.stat': method({ dbg, sr }, SrStatSchema),
  'SR.ls': method({ dbg, sr }, v.array(VolumeSchema)),
  'SR.set_name': method({ dbg, sr, new_name: text }, unit),
  'SR.set_description': method({ dbg, sr, new_description: text }, unit),
  'Volume.create': method(
    { dbg, sr, name: text, description: text, size: sizeParam, sharable: flagParam },
    VolumeSchema,
  ),
  'Volume.snapshot': method(ofVolume, VolumeSchema),
  'Volume.clone': method(ofVolume, VolumeSchema),
  'Volume.destroy': method(ofVolume, unit),
  'Volume.revert': method({ dbg, sr, snapshot: text, key }, unit),
  'Volume.set_name': method({ ...ofVolume, new_name: text }, unit),
  'Volume.set_description': method({ ...ofVolume, new_description: text }, unit),
  'Volume.set': method({ ...ofVolume, k: text, v: text }, unit),
  'Volume.unset': method({ ...ofVolume, k: text }, unit),
  'Volume.resize': method({ ...ofVolume, new_size: sizeParam }, unit),
  'Volume.stat': method(ofVolume, VolumeSchema),
  'Volume.enable_cbt': method(ofVolume, unit),
  'Volume.disable_cbt': method(ofVolume, unit),
  'Volume.data_destroy': method(ofVolume, unit),
  'Volume.list_changed_blocks': method(
    { ...ofVolume, key2: text, offset: sizeParam, length: sizeParam },
    ChangedBlocksSchema,
  ),
  'Volume.compose': method({ ...ofVolume, key2: text }, unit),
} as const;

export const DATAPATH_METHODS = {
  ...PLUGIN_METHODS,
  'Datapath.open': method({ dbg, uri, persistent: flagParam }, unit),
  'Datapath.attach': method(ofDisk, BackendSchema),
  'Datapath.activate': method(ofDisk, unit),
  'Datapath.activate_readonly': method(ofDisk, unit),
  /** The path of a socket that takes a descriptor. */
  'Datapath.import_activate': method(ofDisk, v.pipe(text, v.startsWith('/'))),
  'Datapath.deactivate': method(ofDisk, unit),
  'Datapath.detach': method(ofDisk, unit),
  'Datapath.close': method({ dbg, uri }, unit),
  'Data.mirror': method({ ...ofDisk, remote: text }, OperationSchema),
  'Data.stat': method({ dbg, operation: OperationSchema }, StatusSchema),
  'Data.cancel': method({ dbg, operation: OperationSchema }, unit),
  'Data.destroy': method({ dbg, operation: OperationSchema }, unit),
  'Data.ls': method({ dbg }, v.array(OperationSchema)),
} as const;

/** A failure, as both readers take it: without all of a backtrace its code is lost. */
export const ErrorSchema = v.strictObject({
  code: v.pipe(text, v.minLength(1)),
  params: v.array(text),
  backtrace: v.strictObject({
    error: text,
    files: v.array(text),
    lines: v.array(v.pipe(v.number(), v.safeInteger())),
  }),
});

export type VolumeMethod = keyof typeof VOLUME_METHODS;
export type DatapathMethod = keyof typeof DATAPATH_METHODS;

type Of<Table, M extends keyof Table> = Table[M] extends {
  params: infer P extends v.GenericSchema;
  result: infer R extends v.GenericSchema;
}
  ? (params: Omit<v.InferOutput<P>, 'dbg'>) => Promise<v.InferOutput<R>>
  : never;

/** One function per method: checked parameters in, the result or a thrown SmapiError out. */
export type VolumeHandlers = { [M in VolumeMethod]: Of<typeof VOLUME_METHODS, M> };
export type DatapathHandlers = { [M in DatapathMethod]: Of<typeof DATAPATH_METHODS, M> };

export type SmapiVolume = v.InferOutput<typeof VolumeSchema>;
export type SmapiSrStat = v.InferOutput<typeof SrStatSchema>;
export type SmapiProbeResult = v.InferOutput<typeof ProbeResultSchema>;
export type SmapiQuery = v.InferOutput<typeof QuerySchema>;
export type SmapiBackend = v.InferOutput<typeof BackendSchema>;
export type SmapiOperation = v.InferOutput<typeof OperationSchema>;
export type SmapiErrorObject = v.InferOutput<typeof ErrorSchema>;
