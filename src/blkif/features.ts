// SPDX-License-Identifier: Apache-2.0
// The blkif nodes ringdisk reads or writes: one table that drives parsing and publishing. Nothing
// else in the sources spells one of these names or knows a range.
import type { Abi } from '../datapath/binding.ts';
import { formatLimits, type Limits, parseLimits } from '../target/limits.ts';
import { textBytes } from '../text.ts';
import { parseDecimal } from '../xenstore/paths.ts';
import { formatXenbusState, parseXenbusState, type XenbusStateName } from './xenbus_state.ts';

/** How a node's text becomes a value, and back. */
export interface NodeType<T> {
  /** Completes "the node is ..., not ...". */
  readonly expects: string;
  /** undefined: not a value of this type. */
  parse(text: string): T | undefined;
  format(value: T): string;
}

/** Whatever is in the frontend's directory, the guest may change, also what the toolstack wrote. */
export type Writer = 'toolstack' | 'backend' | 'frontend';

export interface NodeSpec<T> {
  readonly node: string;
  readonly directory: 'backend' | 'frontend';
  readonly writer: Writer;
  readonly type: NodeType<T>;
  /** The value of a node that is not there; undefined: absence means absence. */
  readonly absent: T | undefined;
  readonly meaning: string;
}

// Linux's 32-bit grant references and its two-level or FIFO event channels (2^17 ports).
const GREF_MAX = 0xffff_ffff;
const PORT_MAX = 131_071;
const PAGE_ORDER_MAX = 4;
const QUEUES_MAX = 64;
const INDIRECT_SEGMENTS_MAX = 4096;
const PATH_BYTES_MAX = 3072;
const PARAMS_BYTES_MAX = 4095;
const WORD_BYTES_MAX = 64;

function count(min: number, max: number): NodeType<number> {
  return {
    expects: `a number from ${min} to ${max}`,
    parse: (text) => {
      const value = parseDecimal(text, max);
      return value !== undefined && value >= min ? value : undefined;
    },
    format: String,
  };
}

/** Sizes outgrow 32 bits; they are only ever written by us. */
const size: NodeType<number> = {
  expects: 'a size',
  parse: (text) => (/^[0-9]{1,15}$/.test(text) ? Number(text) : undefined),
  format: String,
};

function text(bytesMax: number): NodeType<string> {
  return {
    expects: `a text of at most ${bytesMax} bytes`,
    parse: (value) => (textBytes(value) <= bytesMax ? value : undefined),
    format: String,
  };
}

const path: NodeType<string> = {
  expects: 'an absolute xenstore path',
  parse: (value) => {
    const isPath = /^(\/[A-Za-z0-9_@-]+)+$/.test(value) && value.length <= PATH_BYTES_MAX;
    return isPath ? value : undefined;
  },
  format: String,
};

/** Exactly these words, each standing for a value. */
function words<T>(values: ReadonlyMap<string, T>): NodeType<T> {
  return {
    expects: `one of ${[...values.keys()].join(', ')}`,
    parse: (word) => values.get(word),
    format: (value) => [...values].find(([, known]) => known === value)?.[0] ?? '',
  };
}

const flag: NodeType<boolean> = {
  ...words(
    new Map([
      ['0', false],
      ['1', true],
    ]),
  ),
  expects: '0 or 1',
};

const state: NodeType<XenbusStateName> = {
  expects: 'a state from 0 to 8',
  parse: parseXenbusState,
  format: formatXenbusState,
};

/** With "!" the toolstack asks to share the target with whoever else uses it. */
export type Mode = 'r' | 'w' | 'r!' | 'w!';
const mode = words(
  new Map<string, Mode>([
    ['r', 'r'],
    ['w', 'w'],
    ['r!', 'r!'],
    ['w!', 'w!'],
    ['ro', 'r'],
    ['rw', 'w'],
  ]),
);

/** "normal", or whatever else a toolstack may call it, waits for the guest. */
const shutdown: NodeType<'normal' | 'force'> = {
  expects: 'normal or force',
  parse: (value) => (value === 'force' ? 'force' : 'normal'),
  format: (value) => value,
};

const abi = words<Abi>(
  new Map<string, Abi>([
    ['x86_64-abi', 'x86_64'],
    ['x86_32-abi', 'x86_32'],
  ]),
);

const limits: NodeType<Limits> = {
  expects: 'limits such as iops=2000,bps=100M,group=name, or off (see ringdisk limit --help)',
  parse: (value) => {
    const parsed = parseLimits(value === 'off' ? '' : value);
    return typeof parsed === 'string' ? undefined : parsed;
  },
  format: formatLimits,
};

function toolstack<T>(
  node: string,
  type: NodeType<T>,
  absent: T | undefined,
  meaning: string,
): NodeSpec<T> {
  return { node, directory: 'backend', writer: 'toolstack', type, absent, meaning };
}

function backend<T>(
  node: string,
  type: NodeType<T>,
  absent: T | undefined,
  meaning: string,
): NodeSpec<T> {
  return { node, directory: 'backend', writer: 'backend', type, absent, meaning };
}

function frontend<T>(
  node: string,
  type: NodeType<T>,
  absent: T | undefined,
  meaning: string,
): NodeSpec<T> {
  return { node, directory: 'frontend', writer: 'frontend', type, absent, meaning };
}

/** What the toolstack tells us. */
export const TOOLSTACK_NODES = {
  frontend: toolstack('frontend', path, undefined, 'path of the frontend directory'),
  online: toolstack('online', flag, true, '0: the device is being removed'),
  shutdownRequest: toolstack(
    'shutdown-request',
    shutdown,
    undefined,
    'the device is being removed, and shutdown-done is waited for; force: without its guest',
  ),
  params: toolstack(
    'params',
    text(PARAMS_BYTES_MAX),
    undefined,
    'the target; "" is an empty drive',
  ),
  mode: toolstack('mode', mode, 'w', 'r: the guest may not write; with "!" it shares'),
  dev: toolstack('dev', text(WORD_BYTES_MAX), undefined, 'the name the guest sees, such as xvda'),
  removable: toolstack('removable', flag, false, 'sets the REMOVABLE bit of info'),
  deviceType: toolstack('device-type', text(WORD_BYTES_MAX), undefined, 'disk or cdrom'),
  discardEnable: toolstack('discard-enable', flag, true, '0: never offer discard'),
  limits: toolstack(
    'sm-data/ringdisk-limits',
    limits,
    undefined,
    'what the guest may ask a second; instead of what stands before the target',
  ),
  script: toolstack('script', text(PATH_BYTES_MAX), undefined, 'runs when we are in InitWait'),
} as const;

/** What a toolstack's script may tell us, once it has run: read only where one is named. */
export const SCRIPT_NODES = {
  hotplugStatus: toolstack('hotplug-status', text(WORD_BYTES_MAX), undefined, 'connected or error'),
  physicalDevicePath: toolstack(
    'physical-device-path',
    text(PARAMS_BYTES_MAX),
    undefined,
    'what it has prepared',
  ),
} as const;

/** By which a storage driver that knows us marks devices of kinds that others serve. */
export const MARK_NODE = 'sm-data/ringdisk-id';

/** What we tell the guest and the toolstack; into `state` a toolstack writes, too: 1 and 5. */
export const BACKEND_NODES = {
  state: backend('state', state, undefined, 'our XenbusState'),
  hotplugStatus: backend('hotplug-status', text(WORD_BYTES_MAX), undefined, 'connected or error'),
  shutdownDone: backend(
    'shutdown-done',
    text(WORD_BYTES_MAX),
    undefined,
    'all that was asked for by shutdown-request is over',
  ),
  hotplugError: backend('hotplug-error', text(PATH_BYTES_MAX), undefined, 'why it is error'),
  kthreadPid: backend('kthread-pid', size, undefined, 'the process that does the I/O'),
  ringPageOrderMax: backend(
    'max-ring-page-order',
    count(0, PAGE_ORDER_MAX),
    0,
    'log2 of the largest ring, in pages',
  ),
  ringPagesMax: backend('max-ring-pages', count(1, 1 << PAGE_ORDER_MAX), 1, 'the same, older word'),
  queuesMax: backend('multi-queue-max-queues', count(1, QUEUES_MAX), 1, 'queues at most'),
  indirectSegmentsMax: backend(
    'feature-max-indirect-segments',
    count(0, INDIRECT_SEGMENTS_MAX),
    0,
    'segments of an indirect request at most; 0: none',
  ),
  persistent: backend('feature-persistent', flag, false, 'we may keep grants mapped'),
  flushCache: backend('feature-flush-cache', flag, false, 'FLUSH_DISKCACHE is understood'),
  barrier: backend('feature-barrier', flag, false, 'WRITE_BARRIER is understood'),
  discard: backend('feature-discard', flag, false, 'DISCARD is understood'),
  discardGranularity: backend('discard-granularity', size, undefined, 'bytes'),
  discardAlignment: backend('discard-alignment', size, 0, 'bytes'),
  discardSecure: backend('discard-secure', flag, false, 'DISCARD may ask for secure erasure'),
  sectors: backend('sectors', size, undefined, 'capacity in units of 512 bytes, always'),
  sectorSize: backend('sector-size', size, 512, 'logical block in bytes'),
  physicalSectorSize: backend('physical-sector-size', size, undefined, 'physical block in bytes'),
  info: backend('info', count(0, 7), 0, 'bits: 1 CDROM, 2 REMOVABLE, 4 READONLY'),
} as const;

/** What the guest tells us: bounded, parsed, never trusted. */
export const FRONTEND_NODES = {
  state: frontend('state', state, undefined, "the frontend's XenbusState"),
  // The toolstack puts it there; the guest can change it, and harms nobody but itself.
  deviceType: frontend('device-type', text(WORD_BYTES_MAX), undefined, 'disk or cdrom'),
  // blkif.h says native where it is absent. Kernel backends take x86_32 instead, out of history; no
  // frontend is known to rely on that, since Linux, FreeBSD and Windows all write the node.
  protocol: frontend('protocol', abi, 'native', 'layout of the ring entries'),
  ringPageOrder: frontend('ring-page-order', count(0, PAGE_ORDER_MAX), undefined, 'log2 of pages'),
  ringPages: frontend(
    'num-ring-pages',
    count(1, 1 << PAGE_ORDER_MAX),
    undefined,
    'ring pages, a power of two: the older word for ring-page-order',
  ),
  queues: frontend('multi-queue-num-queues', count(1, QUEUES_MAX), undefined, 'queues it uses'),
  ringRef: frontend('ring-ref', count(0, GREF_MAX), undefined, 'grant of the ring page'),
  eventChannel: frontend('event-channel', count(1, PORT_MAX), undefined, 'port of the guest'),
  persistent: frontend('feature-persistent', flag, false, 'it reuses its grants'),
} as const;

/** The folder of a queue below the frontend directory, where there are several. */
export function queueFolder(index: number): string {
  return `queue-${index}`;
}

/** "ring-ref0", "ring-ref1", ...: the pages of a ring of several. */
export function ringRefNode(index: number): string {
  return `${FRONTEND_NODES.ringRef.node}${index}`;
}

/** The values that a table of specs describes. */
export type NodeValues<Table> = {
  -readonly [Key in keyof Table]: Table[Key] extends NodeSpec<infer T> ? T : never;
};
