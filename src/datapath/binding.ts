// SPDX-License-Identifier: Apache-2.0
// The native boundary: the only file that loads ringdisk.node, and its types. Everything native is
// asynchronous by command id: a call posts work and returns; the result arrives in the events
// callback. datapath.ts turns that into promises; nothing else imports this file's `native`.
import { createRequire } from 'node:module';
import { packageRoot } from '../package_root.ts';
import type { EngineCounters, VbdCounters, VbdLatency } from './counters.ts';
import type { MirrorEvent, NativeMirrors } from './mirror_binding.ts';

export type PlatformKind = 'xen' | 'loopback';
export type Abi = 'native' | 'x86_32' | 'x86_64';
export type GrantStrategy = 'auto' | 'persistent' | 'copy' | 'map';
/** What becomes of a request whose I/O fails: an error for the guest, or another try, later. */
export type OnError = 'report' | 'stop';
/** The last six are another program's: see src/formats, which serves them by NBD. */
export type TargetKind =
  | 'file'
  | 'block'
  | 'nvme'
  | 'null'
  | 'fill'
  | 'nbd'
  | 'qcow2'
  | 'vhd'
  | 'vhdx'
  | 'vmdk'
  | 'rbd'
  | 'https';

export interface UringFeatures {
  available: boolean;
  /** Why not, when not available: "EPERM", "ENOSYS", ... */
  error?: string;
  singleIssuer: boolean;
  deferTaskrun: boolean;
  coopTaskrun: boolean;
  /** SQE128 and CQE32: NVMe passthrough needs them. */
  bigEntries: boolean;
  uringCommand: boolean;
}

export interface EngineOptions {
  platform: PlatformKind;
  /** Loopback only: the folder that stands for the machine (see native/platform/loopback). */
  machineDir?: string;
  reactors: number;
  /** CPU numbers to pin reactors to, one each; empty: unpinned. */
  cpus: number[];
  /** How long a reactor may poll without finding work before it sleeps, at most. */
  pollBudgetUs: number;
  /** Bounce memory per reactor, bytes; a multiple of 1 MiB. */
  bouncePoolBytes: number;
  /** Host-wide bound on persistently mapped pages. */
  persistentPagesMax: number;
  /** A folder on tmpfs, made if need be: what is here of disks that are filled; "": nowhere. */
  fillDir: string;
}

/** All sizes in bytes. */
export interface TargetCapabilities {
  capacity: number;
  ioAlignment: number;
  physicalBlock: number;
  readOnly: boolean;
  direct: boolean;
  discard: boolean;
  secureDiscard: boolean;
  discardGranularity: number;
  discardAlignment: number;
  rotational: boolean;
  /** It is used by one queue at a time. */
  oneChannel: boolean;
  /** What it turned out to be. */
  kind: TargetKind;
  /** Tells one medium from another, whatever its path; "" where there is none (null). */
  identity: string;
  /** Sentences: what is weaker on this medium than elsewhere. */
  warnings: string[];
}

export interface NativeTargetSpec {
  /** auto: a regular file or a block device, as the path has it. */
  kind: TargetKind | 'auto';
  /** null: the capacity in bytes, decimal; nbd: see src/target/nbd_address.ts. */
  path: string;
  readOnly: boolean;
  /** kind nbd: what its server has answered is not lost with the server's process. */
  keepsNothing?: boolean;
  /** kind fill only: what `path` says. */
  fill?: NativeFillSpec;
}

export interface NativeFillSpec {
  local: NativeTargetSpec;
  source: NativeTargetSpec;
  /** "": beside a local file. */
  mapPath: string;
  /** Of a map that is new. */
  chunkBytes: number;
  /** Bytes a second, where no other was set; 0: as fast as it goes. */
  rate: number;
  /** Where it was filled before: it goes on without its source until that is there. */
  lateSource: boolean;
}

/** Of a target that is being filled; chunks, but for those named otherwise. */
export interface FillStatus {
  chunkBytes: number;
  chunks: number;
  here: number;
  /** Of these, not yet known as here after the host's death. */
  unsaved: number;
  fetchedBytes: number;
  errors: number;
  /** The errno that the job met last; "": it goes on. */
  failing: string;
  rate: number;
  paused: boolean;
  full: boolean;
}

export interface ClaimOptions {
  /** Others may use it meanwhile: takes only what the fence needs. */
  share: boolean;
  /** A process that served it may have died a moment ago: its I/O is waited for before a write. */
  takeOver: boolean;
}

/** Something that a target's worker has been doing for more than a second. */
export interface TargetWait {
  /** "open", "flush", "write", ... */
  call: string;
  /** For how long, of the oldest. */
  sinceMs: number;
  count: number;
  /** Where it is known: why no server can be had. */
  why?: string;
}

export interface QueueRequest {
  ringRefs: number[];
  eventChannel: number;
  /** The file of this queue's journal; "": none, nobody can take the queue over. */
  journal: string;
  /** Goes on with the ring of a process that died, by its journal. */
  takeOver: boolean;
}

export interface ConnectRequest {
  domid: number;
  devid: number;
  target: number;
  abi: Abi;
  queues: QueueRequest[];
  /** What both ends agreed on; `auto` has been resolved by negotiation. */
  grants: Exclude<GrantStrategy, 'auto'>;
  onError: OnError;
  readOnly: boolean;
  discard: boolean;
  secureDiscard: boolean;
  indirectSegmentsMax: number;
  /**
   * The capacity that the guest is told, in units of 512 bytes. What it asks for within that is not
   * its fault, even if the target has shrunk meanwhile.
   */
  sectors: number;
  /** Bound on this VBD's persistently mapped pages. */
  persistentPagesMax: number;
  /** The name of the set of limits that holds for it; "": none does. */
  limits: string;
  /** Of its target, from the first request on; missing: none. */
  mirror?: number;
}

/** What may be asked a second; 0: no limit. Bursts, 0: a tenth of a second's worth. */
export interface LimitRates {
  iops: number;
  readIops: number;
  writeIops: number;
  bps: number;
  readBps: number;
  writeBps: number;
  burst: number;
  burstBytes: number;
}

export interface ExportRequest {
  target: number;
  /** Of the UNIX socket; several exports may share one. */
  path: string;
  /** By which clients ask for it; at most 4096 bytes. */
  name: string;
  /** What a list of the socket's exports says of it. */
  description: string;
  readOnly: boolean;
  /** Told as contexts of block status, by these names; files of NativeBinding.createBitmap(). */
  bitmaps: { name: string; path: string }[];
  /** By reading, where the medium does not tell what is a hole. */
  detectZeroes: boolean;
  /** Its number; its members may use the socket. */
  group?: number;
  /** The name of a set that all its clients share; "": none. */
  limits: string;
}

/** `inconsistent`: it may have missed writes, so all of the disk counts as changed. */
export type BitmapState = 'recording' | 'disabled' | 'inconsistent';

/** One bit for each `granularity` bytes of a disk: whether they were written. Sizes in bytes. */
export interface BitmapLook {
  /** Whose it is, as its maker said. */
  label: string;
  granularity: number;
  /** What of the disk has bits; what lies behind counts as written. */
  covered: number;
  state: BitmapState;
  dirtyBytes: number;
}

/** Of an export, those that are there now. */
export interface ExportClients {
  count: number;
  /** Since each came, together. */
  counters: VbdCounters;
  /** Connections that clients which wrote or flushed have ended in order. */
  goodbyes: number;
}

export type NativeEvent =
  | {
      type: 'done';
      command: number;
      value: number;
      capabilities?: TargetCapabilities;
      fenced?: boolean;
    }
  | { type: 'failed'; command: number; code: string; message: string }
  /** All that a dead process left in the rings of this connect is answered. */
  | { type: 'recovered'; command: number }
  | { type: 'ring-broken'; vbd: number; queue: number; reason: string }
  | { type: 'io-failing'; vbd: number; queue: number; error: string }
  | { type: 'io-recovered'; vbd: number; queue: number }
  | { type: 'fence-lifted'; target: number }
  /** What the operator should know of a target in use. */
  | {
      type: 'target-warned';
      target: number;
      message: string;
      capabilities: TargetCapabilities;
    }
  | MirrorEvent;

/** Each command's `done`/`failed` event comes exactly once; ids are the caller's. */
export interface NativeEngine extends NativeMirrors {
  /**
   * done.value: the target's handle; done.capabilities is set. Opens and measures only, and may
   * take for ever on a medium that hangs.
   */
  openTarget(command: number, spec: NativeTargetSpec): void;
  /**
   * Makes it this process's, once, before anything connects. done.value: the target's handle;
   * done.capabilities is set. done.fenced: a dead process's I/O is still under way; writes wait
   * until fence-lifted, reads do not.
   */
  claimTarget(command: number, target: number, options: ClaimOptions): void;
  /** An openTarget() that has not been answered fails with ECANCELED; safe when it has been. */
  cancelOpen(openCommand: number): void;
  /** What its worker hangs in; none where all is quick. */
  targetWaits(target: number): TargetWait[];
  /** The process number of its worker; 0: it has none. */
  targetWorker(target: number): number;
  /** null: it is no fill, or was full when it was opened. */
  fillStatus(target: number): FillStatus | null;
  /** Bytes a second (0: as fast as it goes), and whether only what guests ask for is fetched. */
  setFill(target: number, rate: number, paused: boolean): boolean;
  /** Re-reads the size; connected VBDs see a grown capacity at once. done.capabilities is set. */
  refreshTarget(command: number, target: number): void;
  /** All its VBDs must be disconnected. */
  closeTarget(command: number, target: number): void;
  /**
   * Whatever is written to the target from now on, by VBDs and exports, is marked before in these
   * bitmap files and in no others. Done when all writers do so; what was in flight is marked, too.
   */
  trackTarget(command: number, target: number, bitmaps: string[]): void;
  /**
   * done.value: the VBD's handle. All queues or none: on failure nothing stays mapped or bound, no
   * answer was shown, and journals that were to be taken over are as they were. Where queues are
   * taken over, `recovered` comes after `done`.
   */
  connect(command: number, request: ConnectRequest): void;
  /**
   * Done when the kernel has let go of all memory, every grant is unmapped and every port unbound.
   * The journals are gone, but for one with requests that could not be answered.
   * done.value: 1 if every request that was taken has been answered, else 0.
   */
  disconnect(command: number, vbd: number): void;
  /**
   * A set of limits, of one VBD or several together: made, or changed while guests run. It outlives
   * connections.
   */
  setLimits(name: string, rates: LimitRates): void;
  /**
   * What a VBD or an export has of a set that several share, by its weight (1 to 1000): a set by
   * itself. Another weight holds for those who are told by limit(). Throws where there is no such
   * group.
   */
  setShare(name: string, group: string, weight: number): void;
  /** VBDs that it holds for keep it until they are gone, or told otherwise. */
  dropLimits(name: string): void;
  /** This set holds for a connected VBD from now on; "": none does. Throws where there is none. */
  limit(vbd: number, name: string): void;
  /** done.value: the export's handle. A target that clients may write to has been claimed. */
  addExport(command: number, request: ExportRequest): void;
  /** Done when its clients are gone: their connections are ended. */
  removeExport(command: number, handle: number): void;
  /** As limit(), for all clients of an export together. */
  limitExport(handle: number, name: string): void;
  exportClients(handle: number): ExportClients;
  vbdCounters(vbd: number): VbdCounters;
  vbdLatency(vbd: number): VbdLatency;
  /** The number of the reactor that serves each of its queues. */
  vbdReactors(vbd: number): number[];
  counters(): EngineCounters;
  /** Ends the reactors. Everything must be disconnected. Safe to call twice. */
  close(): void;
}

/** One frontend's workload or queue set-up; see src/platform/loopback_frontend.ts for the use. */
export interface LoopbackWorkload {
  operation:
    | 'write'
    | 'read'
    | 'verify'
    | 'randwrite'
    | 'randread'
    | 'flush'
    | 'discard'
    | 'barrier';
  /** Bytes per request, a multiple of 512, at most indirect segments x 4096. */
  blockBytes: number;
  /** Requests in flight per queue. */
  depth: number;
  /** Region of the disk, bytes. */
  offset: number;
  length: number;
  /** Stop after so many bytes (whole workload) or so many milliseconds, whichever is first. */
  bytes?: number;
  milliseconds?: number;
  /** Seed of the written pattern: verify must be given the seed that wrote. */
  seed: number;
}

export interface LoopbackResult {
  requests: number;
  bytes: number;
  errors: number;
  /** Verify: blocks whose content differs from what the seed wrote. */
  mismatches: number;
  seconds: number;
  latencyUs: { min: number; p50: number; p90: number; p99: number; p999: number; max: number };
  notificationsSent: number;
  notificationsReceived: number;
}

/** A guest domain of the loopback machine, with a real blkif frontend in native threads. */
export interface NativeLoopbackGuest {
  createQueue(options: { ringPageOrder: number; abi: Abi }): {
    ringRefs: number[];
    eventChannel: number;
  };
  /** After Connected: what the backend offered and this frontend took. */
  start(options: { indirectSegments: number; persistentGrants: boolean }): void;
  run(workload: LoopbackWorkload): Promise<LoopbackResult>;
  /** Progress of the workload under way; reads shared counters only. */
  progress(): { requests: number; bytes: number };
  cancel(): void;
  /** Grants still mapped and copies under way by the backend: 0 after a clean disconnect. */
  grantsInUse(): number;
  /** What Xen does when a backend dies: no grant is in use any more. Only while none lives. */
  forgetBackend(): void;
  destroyQueues(): void;
  close(): void;
}

/** What a process is to become, and what is left to it then; paths are absolute. */
export interface HelperProgram {
  program: string;
  /** With its name first. */
  args: string[];
  readable: string[];
  writable: string[];
  /** To make its socket in. */
  folder: string;
  network: boolean;
}

export interface NativeBinding {
  /**
   * journalVersion: a journal is taken over by daemons whose number is the same. worker: the path
   * of the program.
   */
  version(): { liburing: string; journalVersion: number; worker: string };
  probeUring(): UringFeatures;
  /** Throws when the platform is not there. */
  createEngine(options: EngineOptions, onEvents: (events: NativeEvent[]) => void): NativeEngine;
  createLoopbackGuest(machineDir: string, domid: number): NativeLoopbackGuest;
  /**
   * Makes the file of a bitmap of a disk of `bytes`, all clear. Where one is there already, or a
   * number is out of bounds, it throws.
   */
  createBitmap(
    path: string,
    bytes: number,
    granularity: number,
    label: string,
    state: BitmapState,
  ): void;
  /** For a disk of so many bytes. Throws where the file is no bitmap: ESTALE, ENOENT. */
  lookAtBitmap(path: string, bytes: number): BitmapLook;
  setBitmapState(path: string, state: BitmapState): void;
  /** As well what is marked in `from`; both have the same granularity. */
  mergeBitmap(into: string, from: string): void;
  /** What is alike, from byte `offset` of the disk up to `end`; neighbours may be alike as well. */
  bitmapRuns(
    path: string,
    offset: number,
    end: number,
    most: number,
  ): [length: number, isDirty: boolean][];
  /** The bits of 64 chunks a word, the lowest bit of the lowest byte first. */
  bitmapWords(path: string, firstWord: number, count: number): Uint8Array;
  /** Tells systemd "READY=1" or the like; false where systemd did not start us. */
  sdNotify(state: string): boolean;
  /**
   * Locks the file, made if need be (0600), until this process ends, however it ends. False while
   * another process has it, or this one.
   */
  lockFile(path: string): boolean;
  /** Who connected to this UNIX socket, by the kernel's word. Throws. */
  peerCredentials(fd: number): { pid: number; uid: number };
  /**
   * Starts this very process anew as `program` (`args` with its name first), without capabilities
   * and for good (execve, no_new_privs). Returns only where there is nothing to give up. Throws.
   */
  restartUnprivileged(program: string, args: string[]): void;
  /**
   * Of a process that is about to become a helper: standard error becomes the FIFO `log`, and the
   * lock is its own until its end. False while another process has the lock. Throws.
   */
  beginHelper(log: string, lock: string): boolean;
  /**
   * Which medium lies at a path, in the words of TargetCapabilities' identity. For a helper alone:
   * it waits for the medium, for ever if need be. Throws.
   */
  findMedium(path: string): { isDevice: boolean; identity: string };
  /** After beginHelper(): becomes that program, confined (execve). Only ever throws. */
  becomeHelper(helper: HelperProgram): void;
  /** From now on, a crash (not a SIGKILL) leaves an empty file there. */
  noteCrashes(path: string): void;
}

type NodeGypBuild = (dir: string) => NativeBinding;

const load = createRequire(import.meta.url)('node-gyp-build') as NodeGypBuild;

export const native: NativeBinding = load(packageRoot);
