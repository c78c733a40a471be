// SPDX-License-Identifier: Apache-2.0
// Who may use one medium at the same time: the disks of one VM, readers among themselves, and
// whoever asks to share.
import { type XenstoreClient, XenstoreError } from '../xenstore/client.ts';
import { domainPath, parseDomid } from '../xenstore/paths.ts';

/** A VBD that uses a target, or wants to. */
export interface TargetUser {
  readonly name: string;
  readonly domid: number;
  readonly readOnly: boolean;
  /** Asked for by the toolstack: it knows what it does. */
  readonly share: boolean;
  /** It ends by itself, and whoever is offered the medium meanwhile connects after that. */
  readonly handsOver?: boolean;
}

/** The VMs that a domain stands for; equal texts for equal VMs. */
export type Vms = ReadonlySet<string>;

/**
 * The domain's own VM: both ends of a migration within this host name the same one. A stubdomain
 * has a VM of its own and also stands for the guest whose devices it emulates. The toolstack writes
 * these nodes, and guests cannot.
 */
export async function readVms(xenstore: XenstoreClient, domid: number): Promise<Vms> {
  const target = parseDomid((await readIfAllowed(xenstore, domid, 'target')) ?? '');
  const domids = target === undefined ? [domid] : [domid, target];
  const vms = await Promise.all(domids.map((one) => readIfAllowed(xenstore, one, 'vm')));
  const known = vms.filter((vm): vm is string => vm !== undefined && vm !== '');
  return new Set([...domids.map((one) => `domain ${one}`), ...known]);
}

type KnownUser = TargetUser & { readonly vms: Vms };

export function mayShare(newcomer: KnownUser, user: KnownUser): boolean {
  if (user.handsOver || newcomer.share || (newcomer.readOnly && user.readOnly)) return true;
  return isOneVm(newcomer, user);
}

/**
 * Whether what somebody who goes still has under way may land on what the newcomer writes: a VM
 * that starts again comes back to its own medium, and knows nothing of its former life's requests.
 * Those that share on purpose see to that themselves.
 */
export function mustOutlast(newcomer: KnownUser, leaving: KnownUser): boolean {
  if (newcomer.name === leaving.name || leaving.readOnly) return false;
  return isOneVm(newcomer, leaving);
}

function isOneVm(one: KnownUser, other: KnownUser): boolean {
  return [...one.vms].some((vm) => other.vms.has(vm));
}

/** A part of a file, which may have several names: its own, and those of loop devices. */
export interface Extent {
  readonly file: string;
  readonly from: number;
  readonly to: number;
}

const FILE_IDENTITY =
  /^(file device|loop) ([0-9]+:[0-9]+ inode [0-9]+)(?: from ([0-9]+) to ([0-9]+))?/;

/** As native's identity.cc words it; undefined for what is neither a file nor a loop device. */
export function extentOf(identity: string): Extent | undefined {
  const [, kind, file, offset, limit] = FILE_IDENTITY.exec(identity) ?? [];
  if (file === undefined) return undefined;
  const from = kind === 'loop' ? Number(offset) : 0;
  // No limit is 0.
  const bytes = kind === 'loop' ? Number(limit) : 0;
  return { file, from, to: bytes === 0 ? Number.POSITIVE_INFINITY : from + bytes };
}

export function overlap(one: Extent | undefined, other: Extent | undefined): boolean {
  if (!one || !other || one.file !== other.file) return false;
  return one.from < other.to && other.from < one.to;
}

/** A driver domain may not look into the homes of others. */
async function readIfAllowed(
  xenstore: XenstoreClient,
  domid: number,
  node: string,
): Promise<string | undefined> {
  try {
    return await xenstore.read(`${domainPath(domid)}/${node}`);
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'EACCES') return undefined;
    throw error;
  }
}
