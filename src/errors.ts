// SPDX-License-Identifier: Apache-2.0
// Every error the control plane raises on purpose. Messages are sentences for the operator; codes
// are for programs and never change their meaning.

/** The codes, each with what it tells the caller. */
export const ERROR_CODES = {
  CONFIG_INVALID: 'The configuration file or an override cannot be used; each problem is listed.',
  TARGET_INVALID: 'The toolstack names a target in a way that cannot be served.',
  TARGET_BUSY: 'Another VM uses the target, or too many opens hang; it is tried again.',
  BACKEND_NODE_INVALID: 'A node the toolstack wrote into the backend directory is not valid.',
  FRONTEND_NODE_INVALID: 'A node the guest wrote is not valid; its VBD is closed.',
  BITMAP_INVALID: 'The name or the granularity of a dirty bitmap cannot be used.',
  BITMAP_REFUSED: 'It cannot be done with this dirty bitmap as it is.',
  BITMAP_UNKNOWN: 'The disk has no dirty bitmap of that name.',
  EXPORT_INVALID: 'The name or the socket of an NBD export cannot be used.',
  EXPORT_REFUSED: 'It cannot be exported as it was asked for.',
  LIMIT_INVALID: 'The disk cannot be limited in the way it was asked for.',
  LIMIT_UNRECORDED: 'It holds, but a restart of the daemon goes by what held before.',
  EXPORT_BUSY: 'It is no longer exported, but I/O of its clients is not over.',
  EXPORT_UNRECORDED: 'It holds, but a restart of the daemon goes by what was exported before.',
  EXPORT_UNKNOWN: 'No NBD export has that name.',
  CERTIFICATES_INVALID: 'A certificate or key for NBD over TLS is missing or cannot be used.',
  FILL_NONE: 'The disk is not filled from a source.',
  MIRROR_NONE: 'The disk is not mirrored.',
  MIRROR_REFUSED: 'The disk cannot be mirrored or switched in the way it was asked for.',
  MIGRATION_FAILED: 'The guest, or one of its disks, has not moved to the other host.',
  KIND_TAKEN: 'Another backend of this host serves this kind of disk.',
  VBD_UNKNOWN: 'No VBD, or more than one, has that name.',
  VBD_NOT_READY: 'The VBD is not in a state in which this can be done.',
  VBD_BUSY: 'The guest, or its last I/O, has not let go of the VBD in time.',
  PERF_FAILED: 'The program perf is missing, may not record, or failed.',
  RESIZE_REFUSED: 'The target shrank; a disk in use can only grow.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export class RingdiskError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** `problems` holds one sentence per problem, each naming its key. */
export class ConfigError extends RingdiskError {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super('CONFIG_INVALID', problems.join('\n'));
    this.problems = problems;
  }
}

export class TargetSpecError extends RingdiskError {
  constructor(message: string, options?: ErrorOptions) {
    super('TARGET_INVALID', message, options);
  }
}

const SHOWN_VALUE_MAX = 64;

/** A xenstore value as it may stand in a log line or an error node: cut short, escaped, quoted. */
export function showValue(value: string | undefined): string {
  if (value === undefined) return 'missing';
  const cut = value.length > SHOWN_VALUE_MAX ? `${value.slice(0, SHOWN_VALUE_MAX)}…` : value;
  // Bytes that are no text (src/text.ts) are shown as bytes.
  const bytes = JSON.stringify(cut).replace(/\\\\|\\udc([89a-f].)/g, (match, byte?: string) =>
    byte === undefined ? match : `\\x${byte}`,
  );
  // JSON leaves DEL, C1 controls and bidirectional marks readable; a log must not.
  return bytes.replace(/[^\x20-\x7e…]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** A node of the toolstack that makes no sense. */
export class BackendNodeError extends RingdiskError {
  readonly node: string;
  constructor(node: string, value: string | undefined, expects: string) {
    super('BACKEND_NODE_INVALID', `backend node ${node} is ${showValue(value)}, not ${expects}`);
    this.node = node;
  }
}

/** A node of the frontend that makes no sense or exceeds what was offered. */
export class NegotiationError extends RingdiskError {
  readonly node: string;
  /** The value as shown: bounded and escaped. */
  readonly value: string;
  constructor(node: string, value: string | undefined, expects: string) {
    super('FRONTEND_NODE_INVALID', `frontend node ${node} is ${showValue(value)}, not ${expects}`);
    this.node = node;
    this.value = showValue(value);
  }
}
