// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs';
import { showValue } from '../errors.ts';
import { type XenstoreClient, XenstoreError } from './client.ts';
import { parseDomid } from './paths.ts';
import { readIfAllowed } from './read_if_allowed.ts';

/**
 * Our own home holds it; dom0 lacks the node in some set-ups, but has xenstored's own socket or is
 * told by Xen that it is in control. Another domain that took itself for dom0 would find no disk,
 * and say nothing. Throws XenstoreError.
 */
export async function readOwnDomid(
  xenstore: Pick<XenstoreClient, 'read'>,
  isDom0: () => boolean = isControlDomain,
): Promise<number> {
  const text = await readIfAllowed(xenstore, 'domid');
  const domid = parseDomid(text ?? '');
  if (domid !== undefined) return domid;
  if (text === undefined && isDom0()) return 0;
  throw new XenstoreError(
    'EINVAL',
    `this domain's own number is ${showValue(text)} in xenstore (xenstore-read domid), so its ` +
      'disks cannot be found: the toolstack writes it when it makes a driver domain',
  );
}

function isControlDomain(): boolean {
  try {
    return readFileSync('/proc/xen/capabilities', 'utf8').includes('control_d');
  } catch {
    // xenfs need not be mounted. A driver domain reaches xenstored by the kernel's device alone.
    return existsSync('/run/xenstored/socket');
  }
}
