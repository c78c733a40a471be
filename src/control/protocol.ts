// SPDX-License-Identifier: Apache-2.0
// The control socket's language: JSON-RPC 2.0 in all but its version field, one message per line.
//   → {"protocol":1,"id":7,"method":"show","params":{"vbd":"3/xvda"}}
//   ← {"protocol":1,"id":7,"result":{...}}  or  {"protocol":1,"id":7,"error":{"code":"ENOENT",...}}
// Within one protocol version, fields are only ever added.
import path from 'node:path';
import * as v from 'valibot';
import type { TargetCapabilities } from '../datapath/binding.ts';
import type { EngineCounters, VbdCounters } from '../datapath/counters.ts';
import { BITMAP_METHODS, BitmapSchema, bitmapName, vbdName } from './bitmap_methods.ts';

export const PROTOCOL = 1;

/** Where the daemon with this runtime directory listens. */
export function controlSocketPath(runtimeDir: string): string {
  return path.join(runtimeDir, 'control.sock');
}

const requestId = v.pipe(v.number(), v.safeInteger());

export const RequestSchema = v.object({
  protocol: v.literal(PROTOCOL),
  id: requestId,
  method: v.pipe(v.string(), v.maxLength(64)),
  params: v.optional(v.unknown()),
});

export const ResponseSchema = v.object({
  protocol: v.literal(PROTOCOL),
  /** null: the request could not be read that far. */
  id: v.nullable(requestId),
  result: v.optional(v.unknown()),
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
});

type AllNumbers<T> = { [K in keyof T]: v.NumberSchema<undefined> };

/** An object of numbers with just these keys; a missing one does not compile. */
function numbers<T>(keys: Record<keyof T, true>): AllNumbers<T> {
  return Object.fromEntries(Object.keys(keys).map((key) => [key, v.number()])) as AllNumbers<T>;
}

const Counters = v.object(
  numbers<VbdCounters>({
    reads: true,
    writes: true,
    flushes: true,
    barriers: true,
    discards: true,
    readBytes: true,
    writeBytes: true,
    discardBytes: true,
    ioErrors: true,
    rejected: true,
    unsupported: true,
    indirect: true,
    notificationsReceived: true,
    notificationsSent: true,
    polls: true,
    takeBatches: true,
    taken: true,
    batches: true,
    answered: true,
    grantMaps: true,
    grantUnmaps: true,
    grantCopies: true,
    copiedBytes: true,
    readModifyWrites: true,
    retries: true,
    replayed: true,
    redelivered: true,
    inFlight: true,
    mappedPages: true,
    bounceBytes: true,
    brokenQueues: true,
    waitingForTokens: true,
  }),
);

const Histogram = v.object({
  count: v.number(),
  sumUs: v.number(),
  maxUs: v.number(),
  buckets: v.array(v.tuple([v.number(), v.number()])),
});

const Latency = v.object({
  read: Histogram,
  write: Histogram,
  barrier: Histogram,
  flush: Histogram,
  discard: Histogram,
  /** Part of the others: what requests waited because of limits. */
  tokens: Histogram,
});

type ReactorCounters = EngineCounters['reactors'][number];

const Engine = v.object({
  mappedPages: v.number(),
  boundPorts: v.number(),
  reactors: v.array(
    v.object(
      numbers<ReactorCounters>({
        sleeps: true,
        wakeups: true,
        uringEnters: true,
        submissions: true,
        grantCalls: true,
        eventReads: true,
        eventUnmasks: true,
        bounceBytes: true,
      }),
    ),
  ),
});

type Flags = 'readOnly' | 'direct' | 'discard' | 'secureDiscard' | 'rotational' | 'oneChannel';

const Capabilities = v.object({
  ...numbers<Omit<TargetCapabilities, Flags | 'kind' | 'identity' | 'warnings'>>({
    capacity: true,
    ioAlignment: true,
    physicalBlock: true,
    discardGranularity: true,
    discardAlignment: true,
  }),
  readOnly: v.boolean(),
  direct: v.boolean(),
  discard: v.boolean(),
  secureDiscard: v.boolean(),
  rotational: v.boolean(),
  oneChannel: v.boolean(),
  kind: v.string(),
  identity: v.string(),
  warnings: v.array(v.string()),
});

/** HelperInfo of src/formats/helper.ts as it travels. */
const Helper = v.object({
  program: v.string(),
  pid: v.optional(v.number()),
  restarts: v.number(),
  error: v.optional(v.string()),
  chain: v.array(v.object({ format: v.string(), path: v.string(), isDevice: v.boolean() })),
});

const Target = v.object({
  spec: v.string(),
  kind: v.string(),
  path: v.string(),
  capabilities: Capabilities,
  helper: v.optional(Helper),
  isSwitched: v.optional(v.literal(true)),
});

const QueueNodes = v.object({ ringRefs: v.array(v.number()), eventChannel: v.number() });

const Negotiated = v.object({
  abi: v.string(),
  queues: v.array(QueueNodes),
  ringPageOrder: v.number(),
  grants: v.string(),
  indirectSegmentsMax: v.number(),
  readOnly: v.boolean(),
  discard: v.boolean(),
  secureDiscard: v.boolean(),
});

const optionalNumber = v.optional(v.number());
const LimitInfo = v.object({
  iops: optionalNumber,
  readIops: optionalNumber,
  writeIops: optionalNumber,
  bps: optionalNumber,
  readBps: optionalNumber,
  writeBps: optionalNumber,
  burst: optionalNumber,
  burstBytes: optionalNumber,
  group: v.optional(v.string()),
  weight: v.optional(v.number()),
  sharedWith: v.optional(v.array(v.string())),
  from: v.picklist(['operator', 'xenstore', 'target']),
});

const Failing = v.object({ since: v.string(), error: v.string() });
/** FillInfo of src/vbd/info.ts as it travels. */
const Fill = v.object({
  state: v.picklist(['filling', 'paused', 'failing', 'full']),
  bytes: v.number(),
  bytesHere: v.number(),
  bytesUnsaved: v.number(),
  bytesFetched: v.number(),
  rate: v.number(),
  errors: v.number(),
  error: v.optional(v.string()),
});
/** MirrorInfo of src/vbd/mirror_info.ts as it travels. */
const Mirror = v.object({
  target: v.string(),
  kind: v.string(),
  path: v.string(),
  state: v.picklist(['waiting', 'copying', 'paused', 'following', 'ready', 'failed']),
  mode: v.picklist(['copy', 'sync']),
  bytes: v.number(),
  bytesBehind: v.number(),
  bytesCopied: v.number(),
  rate: v.number(),
  speed: v.number(),
  secondsLeft: v.optional(v.number()),
  switchWhenReady: v.boolean(),
  sourceErrors: v.number(),
  error: v.optional(v.string()),
});
const Wait = v.object({
  call: v.string(),
  since: v.string(),
  count: v.number(),
  why: v.optional(v.string()),
});

/** One VBD: VbdInfo of src/vbd/info.ts as it travels. */
const Vbd = v.object({
  name: v.string(),
  kind: v.string(),
  domid: v.number(),
  devid: v.number(),
  vdev: v.optional(v.string()),
  state: v.string(),
  frontendState: v.string(),
  readOnly: v.boolean(),
  target: v.optional(Target),
  fill: v.optional(Fill),
  mirror: v.optional(Mirror),
  askedTarget: v.optional(v.string()),
  waits: v.optional(v.array(Wait)),
  agreement: v.optional(Negotiated),
  counters: v.optional(Counters),
  onError: v.optional(v.string()),
  limits: v.optional(LimitInfo),
  limitsProblem: v.optional(v.string()),
  /** These two only in the answer to `show`: by queue, the number of the reactor that serves it. */
  reactors: v.optional(v.array(v.number())),
  latency: v.optional(Latency),
  /** Also there only. */
  bitmaps: v.optional(v.array(BitmapSchema)),
  fencedSince: v.optional(v.string()),
  failing: v.optional(Failing),
  error: v.optional(v.string()),
});

/** One NBD export: ExportInfo of src/nbd/exported.ts as it travels. */
const Export = v.object({
  source: v.string(),
  name: v.string(),
  socket: v.string(),
  readOnly: v.boolean(),
  allowWriters: v.boolean(),
  handOver: v.optional(v.boolean()),
  bitmaps: v.optional(v.array(v.string())),
  detectZeroes: v.optional(v.boolean()),
  group: v.optional(v.number()),
  uri: v.string(),
  oldUri: v.string(),
  state: v.picklist(['exported', 'waiting']),
  size: v.optional(v.number()),
  clients: v.number(),
  counters: v.optional(Counters),
  limits: v.optional(LimitInfo),
  error: v.optional(v.string()),
});

const ServeArguments = v.object({
  platform: v.picklist(['xen', 'loopback']),
  config: v.optional(v.string()),
  backend: v.optional(v.array(v.string())),
  force: v.optional(v.boolean()),
  runtimeDir: v.optional(v.string()),
});

const nothing = v.object({});
const exportName = v.pipe(v.string(), v.maxLength(255));
const limitWords = v.pipe(v.string(), v.maxLength(1024));
const oneVbd = v.object({ vbd: vbdName });

/** xenstored cannot be reached since then (ISO 8601): states are as they were. */
const Lost = v.object({ since: v.string(), reason: v.string() });

/** Every method: its parameters and its result. */
export const METHODS = {
  version: {
    params: nothing,
    result: v.object({
      ringdisk: v.string(),
      /** Of what it leaves to the daemon after it: only one with the same numbers can go on. */
      journalVersion: v.number(),
      recordVersion: v.number(),
      liburing: v.string(),
      protocol: v.number(),
      platform: v.string(),
      backends: v.array(v.string()),
      pid: v.number(),
      xenstoreLost: v.optional(Lost),
    }),
  },
  list: {
    params: nothing,
    result: v.object({ vbds: v.array(Vbd), xenstoreLost: v.optional(Lost) }),
  },
  show: { params: oneVbd, result: v.object({ vbd: Vbd }) },
  stats: {
    params: nothing,
    result: v.object({
      /** Milliseconds of a clock that never jumps: rates come from two answers. */
      monotonicMs: v.number(),
      vbds: v.array(
        v.object({
          name: v.string(),
          counters: Counters,
          /** While connected. */
          latency: v.optional(Latency),
          /** Writes wait for a dead daemon's I/O since then. */
          fencedSince: v.optional(v.string()),
          /** Requests that failed wait since then and are tried again; the errno of the first. */
          failing: v.optional(Failing),
          /** Where it is filled from a source. */
          fill: v.optional(Fill),
          mirror: v.optional(Mirror),
          limits: v.optional(LimitInfo),
        }),
      ),
      engine: Engine,
    }),
  },
  /** Re-reads the target's size and tells the guest; bytes. */
  resize: { params: oneVbd, result: v.object({ before: v.number(), after: v.number() }) },
  /**
   * Closes the VBD as if the toolstack had asked; done when nothing of the guest is held. A guest
   * that does not let go keeps it, unless `force` is given.
   */
  disconnect: {
    params: v.object({ vbd: vbdName, force: v.optional(v.boolean()) }),
    result: nothing,
  },
  /** How far a disk is filled, after what is to be changed; rate: bytes a second, 0: no bound. */
  fill: {
    params: v.object({
      vbd: vbdName,
      rate: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
      paused: v.optional(v.boolean()),
    }),
    result: v.object({ fill: Fill }),
  },
  /**
   * What a disk is mirrored to, after what is to be done. start wants `target`; it and set take
   * `mode` and `rate` (bytes a second, 0: no bound), set takes `paused`; switch makes the target
   * the disk, at once or when it is ready, as start does with `switchWhenReady`.
   */
  mirror: {
    params: v.object({
      vbd: vbdName,
      action: v.picklist(['start', 'status', 'set', 'stop', 'switch']),
      target: v.optional(v.pipe(v.string(), v.maxLength(4096))),
      mode: v.optional(v.picklist(['copy', 'sync'])),
      rate: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
      paused: v.optional(v.boolean()),
      switchWhenReady: v.optional(v.boolean()),
    }),
    result: v.object({
      vbd: v.string(),
      target: v.optional(Target),
      /** Missing: it is over, or has become the disk. */
      mirror: v.optional(Mirror),
    }),
  },
  /**
   * Limits what the disk may ask a second, at once. Only what is given changes; 0 takes a figure
   * away. Without any it only tells. Words and bounds: src/target/limits.ts.
   */
  limit: {
    params: v.object({
      vbd: vbdName,
      limits: v.optional(limitWords),
      off: v.optional(v.boolean()),
      reset: v.optional(v.boolean()),
    }),
    result: v.object({ vbd: v.string(), limits: v.optional(LimitInfo) }),
  },
  /** Tries at once what failed, and says what became of it. */
  retry: { params: oneVbd, result: v.object({ vbd: Vbd }) },
  /** Resolves when clients can connect. What is missing has a default. */
  exportAdd: {
    params: v.object({
      source: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
      name: v.optional(exportName),
      socket: v.optional(v.pipe(v.string(), v.maxLength(4096))),
      readOnly: v.optional(v.boolean()),
      allowWriters: v.optional(v.boolean()),
      handOver: v.optional(v.boolean()),
      bitmaps: v.optional(v.pipe(v.array(bitmapName), v.maxLength(15))),
      detectZeroes: v.optional(v.boolean()),
      /** By number. */
      group: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xfffffffe))),
      /** As of `limit`. */
      limits: v.optional(limitWords),
    }),
    result: v.object({ export: Export }),
  },
  /** As `limit`, all clients of the export together. */
  exportLimit: {
    params: v.object({
      name: exportName,
      limits: v.optional(limitWords),
      off: v.optional(v.boolean()),
    }),
    result: v.object({ export: Export }),
  },
  exportList: { params: nothing, result: v.object({ exports: v.array(Export) }) },
  /** Done when its clients are gone. */
  exportRemove: {
    params: v.object({ name: exportName }),
    result: nothing,
  },
  /**
   * Done when nothing is under way any more of the disks that are named by the export, or of those
   * of one domain; `left`: those that are not, after `ms`.
   */
  exportDrain: {
    params: v.object({
      name: exportName,
      domid: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff))),
      ms: v.pipe(v.number(), v.minValue(0), v.maxValue(60_000)),
    }),
    result: v.object({ left: v.array(v.string()) }),
  },
  ...BITMAP_METHODS,
  /** The daemon ends at once and leaves the disks as they are, for the one that comes after it. */
  handover: {
    params: nothing,
    result: v.object({
      /** systemd starts the next one. */
      managed: v.boolean(),
      /** What it was started with; paths are absolute. */
      serve: ServeArguments,
    }),
  },
} as const;

export type Method = keyof typeof METHODS;
export type Methods = {
  [M in Method]: {
    params: v.InferOutput<(typeof METHODS)[M]['params']>;
    result: v.InferOutput<(typeof METHODS)[M]['result']>;
  };
};

export type ServeArguments = v.InferOutput<typeof ServeArguments>;
export type WireMirror = v.InferOutput<typeof Mirror>;
export type WireFill = v.InferOutput<typeof Fill>;
export type WireLimits = v.InferOutput<typeof LimitInfo>;
export type WireExport = v.InferOutput<typeof Export>;
export type WireBitmap = v.InferOutput<typeof BitmapSchema>;
export type WireVbd = v.InferOutput<typeof Vbd>;
export type WireLinkLoss = v.InferOutput<typeof Lost>;
export type WireCounters = v.InferOutput<typeof Counters>;
export type WireLatency = v.InferOutput<typeof Latency>;
export type WireHistogram = v.InferOutput<typeof Histogram>;
export type Stats = Methods['stats']['result'];
