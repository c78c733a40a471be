// SPDX-License-Identifier: Apache-2.0
// A volume's URI, by which the datapath plugin knows it. XAPI reads its scheme only.
import { SmapiError } from './errors.ts';

export const SCHEME = 'ringdisk';

export interface VolumeName {
  readonly sr: string;
  readonly key: string;
}

export function uriOf({ sr, key }: VolumeName): string {
  return `${SCHEME}://${encodeURIComponent(sr)}/${encodeURIComponent(key)}`;
}

/** Throws SmapiError. */
export function parseUri(uri: string): VolumeName {
  const [, scheme = '', sr = '', key = ''] = /^([a-z]+):\/\/([^/?#]+)\/([^/?#]+)$/i.exec(uri) ?? [];
  try {
    if (scheme.toLowerCase() === SCHEME) {
      return { sr: decodeURIComponent(sr), key: decodeURIComponent(key) };
    }
  } catch {
    // Not as we have encoded it.
  }
  throw new SmapiError('SR_BACKEND_FAILURE', ['', 'URI_INVALID', `${uri} is no volume's URI`]);
}
