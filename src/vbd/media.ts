// SPDX-License-Identifier: Apache-2.0
// The target behind a VBD: opened beside its turns, kept over reconnects, exchanged while nothing
// is connected.
import { FRONTEND_NODES } from '../blkif/features.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { TargetSpecError } from '../errors.ts';
import { confinementHint } from '../target/confinement.ts';
import {
  isEmptyTarget,
  namedExport,
  type ParsedTarget,
  parseTarget,
  shownSizes,
} from '../target/target_spec.ts';
import { Beside } from './beside.ts';
import { abandonOpening, letGoOfMedium } from './close.ts';
import { type Device, type Medium, nodeReader, type View } from './device.ts';
import { hasForeignScript, hasPrepared, readScriptWord, type ScriptWord } from './hotplug.ts';
import { vbdName } from './id.ts';
import { describeMedia, isCdrom, isReadOnlyMode, type Media } from './negotiate.ts';

/** What is over so soon needs no second look at the nodes. */
export const PROMPT_MS = 100;

/** What an open fails with where somebody has still to make the device. */
const MISSING = ['ENOENT', 'ENODEV', 'ENXIO', 'ENOTDIR', 'EROFS', 'EMEDIUMTYPE'];

interface Wanted {
  readonly params: string;
  readonly readOnly: boolean;
  readonly share: boolean;
  /** An error where a script may know better what `params` means. */
  readonly parsed: ParsedTarget | TargetSpecError;
  /** Of the toolstack's script, where it names one that is not ours. */
  readonly script: ScriptWord | undefined;
}

/**
 * Opens what the toolstack asks for as `device.medium`; none for an empty CD drive. An open target
 * that is still the right one stays, with its size read again. `waiting`: it is under way, and
 * marks the VBD when it is over. `unprepared`: the toolstack's script has still to make it. Throws
 * TargetSpecError, TARGET_BUSY or DatapathError.
 */
export async function openMedium(
  device: Device,
  view: View,
): Promise<'open' | 'waiting' | 'unprepared'> {
  const wanted = await readWanted(device, view);
  // A drive without a disc is offered all the same; it connects when a disc is there.
  if (!wanted) {
    letGoOfMedium(device);
    return 'open';
  }
  const key = JSON.stringify([wanted.params, wanted.readOnly, wanted.share, wanted.script]);
  const opening = device.opening?.key === key ? device.opening : begin(device, key, wanted);
  const outcome = await opening.beside.within(PROMPT_MS);
  if (!outcome) return 'waiting';
  device.opening = undefined;
  if ('value' in outcome) {
    device.medium = outcome.value;
    return 'open';
  }
  // A target that cannot even be measured any more is opened anew.
  letGoOfMedium(device);
  // A refusal takes its place in xenstore.
  device.script.hasSpoken ||= wanted.script !== undefined && hasPrepared(wanted.script);
  const isExpected = wanted.script && !device.script.hasSpoken && isMissing(outcome.error);
  if (isExpected) return 'unprepared';
  throw outcome.error;
}

function begin(device: Device, key: string, wanted: Wanted): NonNullable<Device['opening']> {
  abandonOpening(device);
  const { medium } = device;
  if (medium && isSame(medium, wanted)) {
    const refreshed = medium.target.refresh().then(() => medium);
    return openBeside(device, key, wanted.params, false, () => refreshed);
  }
  letGoOfMedium(device);
  return openBeside(device, key, wanted.params, true, (signal) => open(device, wanted, signal));
}

/** As `device.opening`. */
export function openBeside(
  device: Device,
  key: string,
  path: string,
  isNew: boolean,
  open: (signal: AbortSignal) => Promise<Medium>,
): NonNullable<Device['opening']> {
  const abandon = new AbortController();
  const beside = new Beside(open(abandon.signal), device.mark);
  device.opening = { key, path, beside, abandon, isNew, isToldLate: false };
  return device.opening;
}

async function open(device: Device, wanted: Wanted, signal: AbortSignal): Promise<Medium> {
  const { parsed, script } = wanted;
  try {
    if (parsed instanceof TargetSpecError) throw parsed;
    return await openAs(device, wanted, behindOwnExport(device, parsed), signal);
  } catch (error) {
    const path = script?.devicePath;
    if (path === undefined || !isMissing(error)) throw error;
    return openAs(device, wanted, parseTarget(path), signal);
  }
}

async function openAs(
  device: Device,
  wanted: Wanted,
  { kind, path, onError }: ParsedTarget,
  signal: AbortSignal,
): Promise<Medium> {
  const { params, readOnly, share } = wanted;
  const who = { name: vbdName(device.id), domid: device.id.domid };
  const user = { ...who, readOnly, share, ...namedExport(params) };
  try {
    const spec = { kind: kind ?? ('auto' as const), path, readOnly };
    const target = await device.services.openTargets.open(spec, user, { takeOver: false, signal });
    // One that is full is opened as what it has become, and stays what it was called.
    const found = kind === 'fill' ? kind : target.capabilities.kind;
    const opened = { kind: found, path };
    return { params, spec: opened, readOnly, share, onError, target };
  } catch (error) {
    throw withHint(error as Error, confinementHint(error, path));
  }
}

/**
 * A disk that is named by an export of this very daemon is what is exported, and not its client:
 * the two are one open target then, and neither waits for the other's end.
 */
function behindOwnExport({ services }: Device, parsed: ParsedTarget): ParsedTarget {
  if (parsed.kind !== 'nbd') return parsed;
  const source = services.exportedAt(parsed.path);
  if (source === undefined) return parsed;
  const { kind: _, ...rest } = parsed;
  const { kind, path } = parseTarget(source);
  return { ...rest, path, ...(kind && { kind }) };
}

function isMissing(error: unknown): boolean {
  if (error instanceof TargetSpecError) return true;
  return error instanceof DatapathError && MISSING.includes(error.code);
}

function isSame(medium: Medium, { params, readOnly, share }: Wanted): boolean {
  return medium.params === params && medium.readOnly === readOnly && medium.share === share;
}

/** undefined: a drive without a disc. */
async function readWanted(device: Device, view: View): Promise<Wanted | undefined> {
  const { params = '', mode } = view.backend.toolstack;
  const cdrom = await readCdrom(device, view);
  if (cdrom && isEmptyTarget(params)) return undefined;
  const isForeign = hasForeignScript(view);
  const script = isForeign ? await readScriptWord(device) : undefined;
  const parsed = parse(params, isForeign);
  const share = mode?.endsWith('!') === true || ('share' in parsed && parsed.share === true);
  return { params, readOnly: isReadOnly(view, cdrom), share, parsed, script };
}

function parse(params: string, isForeign: boolean): ParsedTarget | TargetSpecError {
  try {
    return parseTarget(params);
  } catch (error) {
    if (isForeign && error instanceof TargetSpecError) return error;
    throw error;
  }
}

function withHint(error: Error, hint: string | undefined): Error {
  if (hint !== undefined) error.message = `${error.message.replace(/\.$/, '')}. ${hint}`;
  return error;
}

/** xl writes the device type into both directories, XAPI only into the frontend's. */
export async function readCdrom(device: Device, view: View): Promise<boolean> {
  const { toolstack } = view.backend;
  if (toolstack.deviceType !== undefined || view.frontendDir === undefined) {
    return isCdrom(toolstack, undefined);
  }
  const read = nodeReader(device.services.xenstore, view.frontendDir);
  return isCdrom(toolstack, await read(FRONTEND_NODES.deviceType.node));
}

export function isReadOnly(view: View, cdrom: boolean): boolean {
  return isReadOnlyMode(view.backend.toolstack) || cdrom;
}

export async function currentMedia(device: Device, view: View, medium: Medium): Promise<Media> {
  const cdrom = await readCdrom(device, view);
  const { toolstack } = view.backend;
  return describeMedia(toolstack, cdrom, medium.target.capabilities, shownSizes(medium.params));
}

/** What was taken over may be what the toolstack has exchanged long ago. */
export function isOtherTarget({ medium }: Device, view: View): boolean {
  return medium !== undefined && medium.params !== (view.backend.toolstack.params ?? '');
}
