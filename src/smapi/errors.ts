// SPDX-License-Identifier: Apache-2.0
// What a failed call says to XAPI: codes that it, its users and their tests know, and texts that xe
// prints as they are.
import { DaemonUnreachableError } from '../control/errors.ts';
import { ManagerError, type ManagerErrorCode } from '../volume/manager_types.ts';
import type { SmapiErrorObject } from './schema.ts';

/** `params` as xe prints them, behind the code. */
export class SmapiError extends Error {
  readonly code: string;
  readonly params: readonly string[];

  constructor(code: string, params: readonly string[], options?: ErrorOptions) {
    super(`${code}: ${params.filter((param) => param !== '').join(': ')}`, options);
    this.name = 'SmapiError';
    this.code = code;
    this.params = params;
  }
}

/** Of storage drivers since long before SMAPIv3; the words belong to the number. */
const FAILURES = {
  24: 'The VDI is currently in use',
  44: 'There is insufficient space',
  46: 'The VDI is not available',
  47: 'The SR is not available',
  79: 'VDI Invalid size',
  90: 'The request is missing the device parameter',
} as const;

export type FailureNumber = keyof typeof FAILURES;

/** "SR_BACKEND_FAILURE_79", with what it stands for and with `detail`. */
export function backendFailure(number: FailureNumber, detail = '', cause?: unknown): SmapiError {
  const params = ['', FAILURES[number], detail];
  return new SmapiError(`SR_BACKEND_FAILURE_${number}`, params, { cause });
}

export function unimplemented(method: string): SmapiError {
  return new SmapiError('Unimplemented', [method]);
}

type Translate = (error: ManagerError, subject: string) => SmapiError;

const numbered =
  (number: FailureNumber): Translate =>
  (error) =>
    backendFailure(number, error.message, error);
const named =
  (code: string): Translate =>
  (error, subject) =>
    new SmapiError(code, [subject], { cause: error });

/** All others keep the manager's own code. */
const TRANSLATIONS: Partial<Record<ManagerErrorCode, Translate>> = {
  VOLUME_UNKNOWN: named('Volume_does_not_exist'),
  POOL_UNKNOWN: named('Sr_not_attached'),
  VOLUME_BUSY: numbered(24),
  POOL_BUSY: numbered(24),
  POOL_FULL: numbered(44),
  KEY_NEEDED: numbered(46),
  POOL_SUSPENDED: numbered(47),
  ZFS_MISSING: numbered(47),
  SIZE_INVALID: numbered(79),
};

/** `subject`: the key or the SR that the call was about. */
export function toSmapiError(error: unknown, subject: string): SmapiError {
  if (error instanceof SmapiError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ManagerError) {
    const translate = TRANSLATIONS[error.code];
    if (translate) return translate(error, subject);
    return new SmapiError('SR_BACKEND_FAILURE', ['', error.code, message], { cause: error });
  }
  const what = error instanceof DaemonUnreachableError ? 'DAEMON_UNREACHABLE' : codeOf(error);
  return new SmapiError('SR_BACKEND_FAILURE', ['', what, message], { cause: error });
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

export function errorObject({ code, params, message }: SmapiError): SmapiErrorObject {
  return { code, params: [...params], backtrace: { error: message, files: [], lines: [] } };
}
