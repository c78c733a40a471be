// SPDX-License-Identifier: Apache-2.0
// What a VBD holds and knows. vbd.ts owns it; the steps in connect.ts, run.ts and close.ts change
// it, one at a time.
import type { Logger } from 'pino';
import { type BackendDirectory, readBackendDirectory } from '../blkif/backend_nodes.ts';
import { type ReadNode, readFrontendState } from '../blkif/frontend_nodes.ts';
import type { XenbusStateName } from '../blkif/xenbus_state.ts';
import type { Config } from '../config.ts';
import type { OnError } from '../datapath/binding.ts';
import type { Connection } from '../datapath/connection.ts';
import type { VbdCounters } from '../datapath/counters.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { Mirror } from '../datapath/mirrors.ts';
import { NegotiationError } from '../errors.ts';
import type { Images } from '../formats/images.ts';
import type { Limits } from '../target/limits.ts';
import type { TargetSpec } from '../target/target_spec.ts';
import type { XenstoreClient, XenstoreRequests } from '../xenstore/client.ts';
import { backendDir, backendErrorNode } from '../xenstore/paths.ts';
import { readIfAllowed } from '../xenstore/read_if_allowed.ts';
import type { SharedWatches } from '../xenstore/shared_watches.ts';
import { Backoff, type BackoffLimits } from './backoff.ts';
import type { Beside } from './beside.ts';
import type { VbdId } from './id.ts';
import type { LimitSets } from './limit_sets.ts';
import type { Agreement, Offer } from './negotiate.ts';
import type { OpenTargets } from './open_targets.ts';
import { LimitedLog } from './rate_limit.ts';
import type { MirrorRecord, Records } from './record.ts';
import type { OurState } from './states.ts';
import type { TakeOvers } from './take_overs.ts';
import type { TargetUse } from './target_entry.ts';

/** How long a VBD is patient, milliseconds. */
export interface Timing {
  /** A frontend that is made to close; libxl gives up after 10 s. */
  readonly closeMs: number;
  /** A frontend that is asked to close by an operator, until he is told that it has not. */
  readonly askMs: number;
  /** A data path that lets go of the rings; kexec and its like wait 5 s for Closed. */
  readonly letGoMs: number;
  /** Until another try after xenstore failed. */
  readonly retryMs: number;
  /** Rings and ports that a process which died has not yet given back. */
  readonly takeOverMs: number;
  /** An open that has not answered is told to the toolstack, before libxl gives up after 10 s. */
  readonly openMs: number;
  /** A hotplug script that says nothing, from when the frontend is Initialised. */
  readonly scriptMs: number;
  /** Between tries of what failed for the environment's reasons. */
  readonly again: BackoffLimits;
}

export const defaultTiming: Timing = {
  closeMs: 8000,
  askMs: 30_000,
  letGoMs: 3000,
  retryMs: 1000,
  takeOverMs: 5000,
  openMs: 8000,
  scriptMs: 1500,
  again: { firstMs: 1000, mostMs: 30_000, leastMs: 250 },
};

/** What all VBDs of a daemon share. */
export interface VbdServices {
  readonly xenstore: XenstoreClient;
  /** Watches on frontends. */
  readonly frontends: SharedWatches;
  readonly datapath: Datapath;
  readonly config: Config;
  readonly backendDomid: number;
  readonly timing: Timing;
  readonly records: Records;
  readonly takeOvers: TakeOvers;
  readonly openTargets: OpenTargets;
  /** Of targets that are images, what serves them. */
  readonly images: Images;
  readonly limitSets: LimitSets;
  /** Ends what is exported of the VBD of this name; resolves when its clients are gone. */
  readonly endExports: (name: string) => Promise<unknown>;
  /** The target behind an NBD export of ours, by its address; undefined: it is none of ours. */
  readonly exportedAt: (address: string) => string | undefined;
  /** Also devices of kinds that others serve, unmarked. */
  readonly force: boolean;
}

/** The target as opened for one VBD. */
export interface Medium {
  /** `params`, as the toolstack wrote it. */
  readonly params: string;
  /** As it turned out to be. */
  readonly spec: TargetSpec;
  readonly readOnly: boolean;
  /** Other VMs may use it at the same time. */
  readonly share: boolean;
  /** What the toolstack wants for this disk; undefined: as the configuration says. */
  readonly onError: OnError | undefined;
  /** `params` was mirrored to it; the guest's next start uses what `params` says. */
  readonly isSwitched?: true | undefined;
  readonly target: TargetUse;
}

/** A target that is being opened, or measured anew. */
export interface Opening {
  /** Equal for equal wishes. */
  readonly key: string;
  /** What is being opened, for messages. */
  readonly path: string;
  readonly beside: Beside<Medium>;
  readonly abandon: AbortController;
  /** Not that of `device.medium`. */
  readonly isNew: boolean;
  /** That it has not answered has been told. */
  isToldLate: boolean;
}

/** A connected data path and what it was connected with. */
export interface Link {
  readonly connection: Connection;
  readonly agreement: Agreement;
  readonly onError: OnError;
  /** The capacity that the guest has been told, in units of 512 bytes; it only ever grows. */
  sectors: number;
}

/** Requests failed, wait and are tried again. */
export interface Failing {
  readonly since: Date;
  /** The errno's name, of the first. */
  readonly error: string;
  /** Queues with such requests. */
  readonly queues: Set<number>;
}

export interface Device {
  readonly id: VbdId;
  readonly services: VbdServices;
  readonly log: LimitedLog;
  /** Our directory. */
  readonly directory: string;
  readonly errorNode: string;
  state: OurState;
  medium: Medium | undefined;
  opening: Opening | undefined;
  /** Under way before a connect: the medium becomes ours alone. */
  claiming: Beside<void> | undefined;
  /** Of what failed for the environment's reasons. */
  readonly backoff: Backoff;
  /** InitWait without a medium: a toolstack's script is about to prepare it. */
  isUnprepared: boolean;
  script: ScriptPatience;
  offer: Offer | undefined;
  link: Link | undefined;
  /** There is a record of it: ours, or a former daemon's. */
  recorded: boolean;
  /** The record could not be written, and is tried again. */
  isRecordDue: boolean;
  /** The record is a former daemon's: its I/O may be under way. */
  isInherited: boolean;
  /** What a former daemon served is taken over again and again, or cannot be. */
  orphan: 'no' | 'retrying' | 'hopeless';
  /** Writes have been waiting since then for the I/O of a process that died. */
  fencedSince: Date | undefined;
  failing: Failing | undefined;
  mirror: DeviceMirror | undefined;
  /** Pending while mirrors that are over have their destinations closed. */
  mirrorEnding: Promise<void> | undefined;
  /** What it may ask, as somebody has said; see limits.ts. */
  readonly limits: SaidLimits;
  /** Pending while an old data path is being let go of; nothing is connected before. */
  lettingGo: Promise<void> | undefined;
  /** Pending while a target is being closed, after that. */
  closing: Promise<void> | undefined;
  /** The target that is. */
  leaving: TargetUse | undefined;
  /** As of the last connection. */
  counters: VbdCounters | undefined;
  error: string | undefined;
  /** As `error`, where that is about a connection and ends with it. */
  passingError: string | undefined;
  errorNodeIs: 'unknown' | 'there' | 'gone';
  /** The toolstack asks for another target than the one that is connected. */
  askedTarget: string | undefined;
  /** Asks for another look at it. */
  readonly mark: () => void;
  /** As mark(), where there is reason to think that what failed works now. */
  readonly hurry: () => void;
  /** Asks for one later. */
  readonly markIn: (milliseconds: number) => void;
  /** While no reconcile is under way, nor anything else that is in turn. */
  readonly inTurn: (step: () => Promise<void>) => Promise<void>;
  /** What was read of its guest's nodes, beyond what every look does. */
  readonly charge: (requests: number) => void;
}

/** What a disk is mirrored to. */
export interface DeviceMirror {
  readonly target: Pick<MirrorRecord, 'params' | 'kind' | 'path' | 'identity' | 'parts'>;
  wish: Pick<MirrorRecord, 'mode' | 'paused' | 'rate' | 'switchWhenReady'>;
  /** undefined: it waits, has failed, or is over. */
  use: TargetUse | undefined;
  /** undefined: it has failed. */
  native: Mirror | undefined;
  /** Why nothing is mirrored any more. */
  failure: string | undefined;
  /** Why it waits, or was not switched. */
  problem: string | undefined;
  /** Nobody waits for its destination any more. */
  readonly abandon: AbortController;
}

export interface SaidLimits {
  operator: Limits | 'none' | undefined;
  toolstack: Limits | undefined;
  /** What is wrong with the toolstack's node. */
  problem: string | undefined;
}

export interface ScriptPatience {
  /** When its frontend was first seen waiting for it, milliseconds. */
  askedAt: number | undefined;
  /** It has been waited for in vain. */
  isSilent: boolean;
  /** It has said that it has prepared the device. */
  hasSpoken: boolean;
}

export function newScriptPatience(): ScriptPatience {
  return { askedAt: undefined, isSilent: false, hasSpoken: false };
}

/** All that a decision is based on, read anew each time. */
export interface View {
  readonly backend: BackendDirectory;
  readonly frontendDir: string | undefined;
  readonly frontend: XenbusStateName;
  /** The frontend's `state` is no state; `frontend` is Unknown then. */
  readonly frontendProblem: NegotiationError | undefined;
}

export function makeDevice(
  id: VbdId,
  services: VbdServices,
  log: Logger,
  marks: Pick<Device, 'mark' | 'markIn' | 'charge' | 'inTurn'>,
): Device {
  const backoff = new Backoff(services.timing.again);
  const hurry = () => {
    backoff.hurry();
    marks.mark();
  };
  return {
    id,
    services,
    log: new LimitedLog(log),
    directory: backendDir(services.backendDomid, id),
    errorNode: backendErrorNode(services.backendDomid, id),
    state: 'Initialising',
    medium: undefined,
    opening: undefined,
    claiming: undefined,
    backoff,
    isUnprepared: false,
    script: newScriptPatience(),
    offer: undefined,
    link: undefined,
    recorded: services.records.has(id),
    isInherited: services.records.has(id),
    isRecordDue: false,
    orphan: 'no',
    fencedSince: undefined,
    failing: undefined,
    mirror: undefined,
    mirrorEnding: undefined,
    limits: { operator: undefined, toolstack: undefined, problem: undefined },
    lettingGo: undefined,
    closing: undefined,
    leaving: undefined,
    counters: undefined,
    error: undefined,
    passingError: undefined,
    errorNodeIs: 'unknown',
    askedTarget: undefined,
    ...marks,
    hurry,
  };
}

/** undefined: the toolstack has removed the device. */
export async function readView(device: Device): Promise<View | undefined> {
  const { xenstore } = device.services;
  const backend = await readBackendDirectory(xenstore, device.directory);
  if (backend === undefined) return undefined;
  const frontendDir = backend.toolstack.frontend;
  if (frontendDir === undefined) {
    return { backend, frontendDir, frontend: 'Unknown', frontendProblem: undefined };
  }
  try {
    const frontend = await readFrontendState(nodeReader(xenstore, frontendDir));
    return { backend, frontendDir, frontend, frontendProblem: undefined };
  } catch (error) {
    if (!(error instanceof NegotiationError)) throw error;
    return { backend, frontendDir, frontend: 'Unknown', frontendProblem: error };
  }
}

/** Of a frontend's folder, which is another domain's. */
export function nodeReader(requests: XenstoreRequests, directory: string): ReadNode {
  return (node) => readIfAllowed(requests, `${directory}/${node}`);
}

/**
 * Toolstacks remove a directory and make it again in one transaction: all that is seen of that is
 * that what we said in it is gone.
 */
export function isMadeAnew({ state }: Device, view: View): boolean {
  return state === 'InitWait' && view.backend.state === 'Initialising';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
