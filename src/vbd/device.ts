// SPDX-License-Identifier: Apache-2.0
// What a VBD holds and knows. vbd.ts owns it; the steps in connect.ts, run.ts and close.ts change
// it, one at a time.
import { type BackendDirectory, readBackendDirectory } from '../blkif/backend_nodes.ts';
import { type ReadNode, readFrontendState } from '../blkif/frontend_nodes.ts';
import type { XenbusStateName } from '../blkif/xenbus_state.ts';
import type { Config } from '../config.ts';
import type { OnError, VbdCounters } from '../datapath/binding.ts';
import type { Connection, Datapath, OpenTarget } from '../datapath/datapath.ts';
import { NegotiationError } from '../errors.ts';
import type { TargetSpec } from '../target/target_spec.ts';
import type { XenstoreClient, XenstoreRequests } from '../xenstore/client.ts';
import type { Agreement, OurState, VbdId } from './info.ts';
import type { Offer } from './negotiate.ts';
import type { LimitedLog } from './rate_limit.ts';
import type { Records } from './record.ts';
import type { TakeOvers } from './take_overs.ts';

/** How long a VBD is patient, milliseconds. */
export interface Timing {
  /** A frontend that was told to close; libxl gives up after 10 s. */
  readonly closeMs: number;
  /** A data path that lets go of the rings; kexec and its like wait 5 s for Closed. */
  readonly letGoMs: number;
  /** Until another try after xenstore failed. */
  readonly retryMs: number;
  /** Rings and ports that a process which died has not yet given back. */
  readonly takeOverMs: number;
}

export const defaultTiming: Timing = {
  closeMs: 8000,
  letGoMs: 3000,
  retryMs: 1000,
  takeOverMs: 5000,
};

/** What all VBDs of a daemon share. */
export interface VbdServices {
  readonly xenstore: XenstoreClient;
  readonly datapath: Datapath;
  readonly config: Config;
  readonly backendDomid: number;
  readonly timing: Timing;
  readonly records: Records;
  readonly takeOvers: TakeOvers;
}

/** The target as opened for one VBD. */
export interface Medium {
  /** `params`, as the toolstack wrote it. */
  readonly params: string;
  readonly spec: TargetSpec;
  readonly readOnly: boolean;
  readonly target: OpenTarget;
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
  offer: Offer | undefined;
  link: Link | undefined;
  /** There is a record of it: ours, or a former daemon's. */
  recorded: boolean;
  /** Writes have been waiting since then for the I/O of a process that died. */
  fencedSince: Date | undefined;
  failing: Failing | undefined;
  /** Pending while an old data path or target is being let go of; nothing is connected before. */
  lettingGo: Promise<void> | undefined;
  /** As of the last connection. */
  counters: VbdCounters | undefined;
  error: string | undefined;
}

/** All that a decision is based on, read anew each time. */
export interface View {
  readonly backend: BackendDirectory;
  readonly frontendDir: string | undefined;
  readonly frontend: XenbusStateName;
  /** The frontend's `state` is no state; `frontend` is Unknown then. */
  readonly frontendProblem: NegotiationError | undefined;
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

export function nodeReader(requests: XenstoreRequests, directory: string): ReadNode {
  return (node) => requests.read(`${directory}/${node}`);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
