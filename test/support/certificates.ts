// SPDX-License-Identifier: Apache-2.0
// Certificates of an authority of its own, made by openssl.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from './temporary_folder.ts';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'];
const CONFIG = `
[ca]
default_ca = ours
[ours]
new_certs_dir = .
database = index.txt
rand_serial = yes
certificate = ca-cert.pem
private_key = ca-key.pem
default_md = sha256
default_days = 2
default_crl_days = 2
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = empty
[empty]
`;

export interface Certificate {
  /** Of the subject, and of the host. */
  readonly name: string;
  readonly expired?: boolean;
}

export class Authority {
  readonly #folder = temporaryFolder();
  #folders = 0;

  constructor() {
    writeFileSync(path.join(this.#folder, 'openssl.cnf'), CONFIG);
    writeFileSync(path.join(this.#folder, 'index.txt'), '');
    const files = ['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'];
    this.#openssl('req', '-x509', ...KEY, ...files, '-subj', '/CN=ca', '-days', '2');
  }

  /** A folder with the authority's certificate and those of the roles that are named. */
  folder(roles: { server?: Certificate; client?: Certificate } = {}): string {
    const folder = path.join(this.#folder, String(this.#folders++));
    mkdirSync(folder);
    this.#openssl('x509', '-in', 'ca-cert.pem', '-out', path.join(folder, 'ca-cert.pem'));
    for (const [role, certificate] of Object.entries(roles)) this.#make(folder, role, certificate);
    return folder;
  }

  /** From then on the list in `folder` says that the role's certificate there is revoked. */
  revoke(certificate: string, folder: string): void {
    this.#ca('-revoke', certificate);
    this.#ca('-gencrl', '-out', path.join(folder, 'ca-crl.pem'));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #make(folder: string, role: string, { name, expired = false }: Certificate): void {
    const to = (end: string) => path.join(folder, `${role}-${end}.pem`);
    const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`];
    const files = ['-keyout', to('key'), '-out', 'request.pem'];
    this.#openssl('req', '-config', 'openssl.cnf', ...KEY, ...files, ...subject);
    const past = ['-startdate', '20200101000000Z', '-enddate', '20200102000000Z'];
    const time = expired ? past : [];
    this.#ca('-batch', '-notext', '-in', 'request.pem', '-out', to('cert'), ...time);
  }

  #ca(...args: string[]): void {
    this.#openssl('ca', '-config', 'openssl.cnf', ...args);
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.#folder, stdio: 'pipe' });
  }
}
