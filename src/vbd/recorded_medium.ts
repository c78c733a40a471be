// SPDX-License-Identifier: Apache-2.0
// The medium of a VBD that a former daemon served, as its record has it.
import type { OnError } from '../datapath/binding.ts';
import { RingdiskError, showValue } from '../errors.ts';
import { confinementHint } from '../target/confinement.ts';
import { namedExport, parseTarget } from '../target/target_spec.ts';
import type { Device, Medium } from './device.ts';
import { vbdName } from './id.ts';
import type { VbdRecord } from './record.ts';

/** Opened, compared and claimed. `fence` of its target: the I/O of the process before is over. */
export async function openRecorded(
  device: Device,
  { target }: VbdRecord,
  signal: AbortSignal,
): Promise<Medium> {
  const { openTargets } = device.services;
  const { params, kind, path, readOnly, share, identity, isSwitched } = target;
  const who = { name: vbdName(device.id), domid: device.id.domid };
  const user = { ...who, readOnly, share, ...namedExport(params) };
  const spec = { kind, path, readOnly };
  const use = await openTargets.open(spec, user, { takeOver: true, signal }).catch((error) => {
    const hint = confinementHint(error, path);
    throw hint === undefined
      ? error
      : new RingdiskError('TARGET_INVALID', `${error.message} ${hint}`);
  });
  // A claim that hangs must not keep others from the medium once nobody waits for it.
  signal.addEventListener('abort', () => use.leave(), { once: true });
  try {
    const found = use.capabilities.identity;
    if (identity !== undefined && found !== identity) throw anotherMedium(path, identity, found);
    await use.claim({ takeOver: true });
  } catch (error) {
    void use.close().catch(() => {});
    throw error;
  }
  const onError = onErrorOf(params);
  return { params, spec: { kind, path }, readOnly, share, onError, isSwitched, target: use };
}

function onErrorOf(params: string): OnError | undefined {
  try {
    return parseTarget(params).onError;
  } catch {
    // The toolstack's script knew what it means.
    return undefined;
  }
}

function anotherMedium(path: string, expected: string, found: string): RingdiskError {
  return new RingdiskError(
    'TARGET_INVALID',
    `${showValue(path)} is another medium than the one its guest uses (${found}, not ` +
      `${expected}). Put the right one back under that name, and the disk goes on`,
  );
}

/**
 * Resolves when nothing of the process that served the VBD can land on its medium any more. Throws
 * where that cannot be told: it is not there, or is another one by now.
 */
export async function outlast(device: Device, record: VbdRecord): Promise<void> {
  const { target } = await openRecorded(device, record, new AbortController().signal);
  // Whoever comes next waits.
  target.leave();
  try {
    await target.fence;
  } finally {
    await target.close();
  }
}
