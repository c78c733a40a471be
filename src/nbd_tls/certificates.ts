// SPDX-License-Identifier: Apache-2.0
// Certificates and keys, in a folder under the names that libnbd, nbdkit and QEMU give them. They
// are read anew for each connection: a certificate that is renewed needs no restart.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { RingdiskError } from '../errors.ts';

export type Role = 'server' | 'client';

/** What both sides insist on. */
const TLS_VERSION_MIN = 'TLSv1.3';

/**
 * `own`: the role's certificate and key are needed, besides the authority's. Throws
 * CERTIFICATES_INVALID.
 */
export async function loadCertificates(
  folder: string,
  role: Role,
  own: boolean,
): Promise<SecureContextOptions> {
  const crl = await read(folder, 'ca-crl.pem').catch(ifMissing);
  const options: SecureContextOptions = {
    minVersion: TLS_VERSION_MIN,
    ca: await read(folder, 'ca-cert.pem'),
    ...(crl && { crl }),
    ...(own && {
      cert: await read(folder, `${role}-cert.pem`),
      key: await read(folder, `${role}-key.pem`),
    }),
  };
  try {
    createSecureContext(options);
  } catch (error) {
    throw invalid(
      `The certificates in ${folder} cannot be used: ${(error as Error).message}`,
      error,
    );
  }
  return options;
}

async function read(folder: string, name: string): Promise<Buffer> {
  const file = path.join(folder, name);
  return readFile(file).catch((error: Error) => {
    throw invalid(`Cannot read the certificate or key ${file}: ${error.message}`, error);
  });
}

function ifMissing(error: Error): undefined {
  const { code } = error.cause as NodeJS.ErrnoException;
  if (code !== 'ENOENT') throw error;
}

function invalid(message: string, cause: unknown): RingdiskError {
  return new RingdiskError('CERTIFICATES_INVALID', message, { cause });
}
