// SPDX-License-Identifier: Apache-2.0

/**
 * What the other end of the control socket may be told: `code` is for programs (ENOENT, EBUSY,
 * EINVAL, ...), the message for people.
 */
export class ControlError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'ControlError';
    this.code = code;
  }
}

/** Nobody answers on the control socket. */
export class DaemonUnreachableError extends Error {
  readonly code = 'DAEMON_UNREACHABLE';
  constructor(message: string) {
    super(message);
    this.name = 'DaemonUnreachableError';
  }
}
