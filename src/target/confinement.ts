// SPDX-License-Identifier: Apache-2.0
// What keeps the daemon from a target is most often its own confinement (SECURITY.md), and errno
// says so to nobody who has not read about it.

/** systemd gives every service one. */
const IS_SERVICE = process.env['INVOCATION_ID'] !== undefined;

const DROP_IN = 'with "systemctl edit ringdisk", then restart it: the guests notice nothing';
/** Options of an image may stand before its path. */
const HIDDEN = /^(?:[a-z0-9.-]+=[^:]*:)*\/(home|root|run|tmp|var\/tmp)\//;

/** What to do about this failure to open `path`; undefined when it has other causes. */
export function confinementHint(
  error: unknown,
  path: string,
  isService = IS_SERVICE,
): string | undefined {
  const { code, cause } = error as { code?: string; cause?: { code?: string } };
  const errno = cause?.code ?? code;
  if (isService && errno === 'EROFS') {
    return `The service may not write there: add its folder to ReadWritePaths= ${DROP_IN}.`;
  }
  if (isService && errno === 'EPERM') {
    return `The service may not use that device: add it to DeviceAllow= ${DROP_IN}.`;
  }
  if (isService && HIDDEN.test(path)) {
    return (
      'The service does not see /home, /root, /tmp and most of /run: ' +
      `move it, or open them (ProtectHome=, PrivateTmp=, BindPaths=) ${DROP_IN}.`
    );
  }
  if (errno === 'EACCES') {
    return "The daemon opens what its user owns, not, as root else can, everybody's: see chown.";
  }
  return undefined;
}
