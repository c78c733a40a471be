// SPDX-License-Identifier: Apache-2.0
// Who may use one medium at the same time: the disks of one VM, readers among themselves, and
// whoever asks to share.
import type { MediumParts } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
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
  /** An export of this medium: its address, as nbd_address.ts has it. */
  readonly exported?: string;
  /** The toolstack names the disk by this address. */
  readonly namedBy?: string;
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

export type KnownUser = TargetUser & { readonly vms: Vms };

/** `meetings` of the newcomer with the user. */
function mayShare(newcomer: KnownUser, user: KnownUser, meetings: readonly Meeting[]): boolean {
  return (
    user.handsOver === true ||
    newcomer.share ||
    isItsExport(newcomer, user) ||
    isItsExport(user, newcomer) ||
    meetings.every((meeting) => isHarmless(newcomer, user, meeting))
  );
}

/** Whoever names a disk by an export knows that the two are one. */
export function isItsExport({ namedBy }: TargetUser, { exported }: TargetUser): boolean {
  return namedBy !== undefined && namedBy === exported;
}

/** Throws TARGET_BUSY unless they may share. */
export function refuseHeld(
  newcomer: KnownUser,
  holder: KnownUser,
  meetings: readonly Meeting[],
): void {
  if (mayShare(newcomer, holder, meetings)) return;
  const who = `${holder.name} (domain ${holder.domid})`;
  const isOneDisk = meetings.every((meeting) => meeting === 'alike');
  const why = isOneDisk
    ? `The target is in use by ${who}, another VM's disk: two VMs that use one medium without ` +
      'knowing of each other destroy what is on it. '
    : `What the target lies on is in use by ${who}, otherwise than this target uses it: one is ` +
      'an image in it, or based on it, and is destroyed by what is written there. ';
  throw new RingdiskError(
    'TARGET_BUSY',
    `${why}Shut that one down, or put share: in front of this target if its guests know how to ` +
      'share.',
  );
}

/** Throws TARGET_BUSY: what another one writes to an end of a mirror, that would miss. */
export function refuseMirrored(newcomer: TargetUser, holder: TargetUser): void {
  if (holder.name === newcomer.name || newcomer.readOnly) return;
  throw new RingdiskError(
    'TARGET_BUSY',
    `The target is a part of a mirror (${holder.name}), which would miss what another one writes.`,
  );
}

/** What a base's user writes, its images show their users, in no order that anybody has made. */
function isHarmless(newcomer: KnownUser, user: KnownUser, meeting: Meeting): boolean {
  if (meeting === 'above') return user.readOnly;
  if (meeting === 'below') return newcomer.readOnly;
  if (newcomer.readOnly && user.readOnly) return true;
  return meeting === 'alike' && isOneVm(newcomer, user);
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

/** Whether the newcomer has to wait for one who is about to go. */
export function mustWait(
  newcomer: KnownUser,
  leaving: KnownUser,
  meetings: readonly Meeting[],
): boolean {
  if (meetings.length === 0) return false;
  return mustOutlast(newcomer, leaving) || !mayShare(newcomer, leaving, meetings);
}

function isOneVm(one: KnownUser, other: KnownUser): boolean {
  return [...one.vms].some((vm) => other.vms.has(vm));
}

/** A part of a medium, in bytes. Media may have several names, and their parts have their own. */
interface Extent {
  readonly medium: string;
  readonly from: number;
  readonly to: number;
}

/** All that somebody touches who uses a target. */
export interface Footprint {
  /** What its bytes mean: those of an image are not what its user sees. "": they are. */
  readonly format: string;
  readonly own: readonly Extent[];
  readonly bases: readonly Extent[];
}

/** `identity` and `parts` as the data path words them; "" is no medium. */
export function footprintOf(identity: string, parts?: MediumParts): Footprint {
  const own = identity === '' ? [] : [identity, ...(parts?.beside ?? [])];
  const [, , format = ''] = IMAGE.exec(identity) ?? [];
  return { format, own: own.map(extentOf), bases: (parts?.bases ?? []).map(extentOf) };
}

// All of them from native's identity.cc, but for the formats, which become_helper.ts adds.
const IMAGE = /^(.*?)((?: as (?:qcow2|vpc|vhdx|vmdk))*)$/s;
const FILE = /^file (?:device )?((?:[0-9]+:|file system )[0-9]+ inode [0-9]+)/;
const LOOP = /^loop ((?:[0-9]+:|file system )[0-9]+ inode [0-9]+) from ([0-9]+) to ([0-9]+)/;
const PARTITION = /^partition [0-9]+ at ([0-9]+) of (.*)$/s;
const NVME = /^nvme [0-9]+ (.*)$/s;

function extentOf(text: string): Extent {
  const [, identity = ''] = IMAGE.exec(text) ?? [];
  const [, file] = FILE.exec(identity) ?? [];
  if (file !== undefined) return whole(file);
  const [, backing, offset, limit] = LOOP.exec(identity) ?? [];
  if (backing !== undefined) return loopExtent(backing, Number(offset), Number(limit));
  const [, start, disk] = PARTITION.exec(identity) ?? [];
  // Where it ends is not told, but no other one begins there.
  if (disk !== undefined) return { medium: disk, from: Number(start), to: Number(start) + 1 };
  return whole(NVME.exec(identity)?.[1] ?? identity);
}

function whole(medium: string): Extent {
  return { medium, from: 0, to: Number.POSITIVE_INFINITY };
}

function loopExtent(medium: string, from: number, limit: number): Extent {
  // No limit is 0.
  return { medium, from, to: limit === 0 ? Number.POSITIVE_INFINITY : from + limit };
}

/** How what one uses lies on what another uses. */
export type Meeting = 'alike' | 'otherwise' | 'above' | 'below';

/**
 * `alike`: they see the same bytes; `otherwise`: the bytes of one are the other's image; `above`:
 * `one` is based on what `other` uses; `below`: the reverse. Empty: neither minds the other.
 */
export function meetings(one: Footprint, other: Footprint): Meeting[] {
  const found: Meeting[] = [];
  const isAlike = one.format === other.format;
  if (overlap(one.own, other.own)) found.push(isAlike ? 'alike' : 'otherwise');
  if (overlap(one.bases, other.own)) found.push('above');
  if (overlap(one.own, other.bases)) found.push('below');
  return found;
}

/** Those alike left out: whoever comes later may share with them. */
export function foreignMeetings(one: Footprint, other: Footprint): Meeting[] {
  return meetings(one, other).filter((meeting) => meeting !== 'alike');
}

function overlap(some: readonly Extent[], others: readonly Extent[]): boolean {
  return some.some(({ medium, from, to }) =>
    others.some((other) => medium === other.medium && from < other.to && other.from < to),
  );
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
