// SPDX-License-Identifier: Apache-2.0
// XAPI's rrdd as far as a plugin meets it (xen-api e2ee48d: xcp_rrdd.ml, rrdd_server.ml): XML-RPC
// on a socket, and a file that is opened when it is registered.
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const READER = fileURLToPath(new URL('rrd_reader.py', import.meta.url));
const HEAD_BYTES = 4 * 1024 * 1024;

export interface ReadSource {
  name: string;
  owner: string;
  type: string;
  value_type: string;
  units: string;
  value: number;
}

export interface Reading {
  timestamp: number;
  dataCrc: number;
  sources: ReadSource[];
}

/** What the reader makes of a file. Throws where it would be refused. */
export function readRrd(content: Buffer): Reading {
  return JSON.parse(
    execFileSync('/usr/bin/python3', ['-IS', READER], { input: content, stdio: 'pipe' }).toString(),
  );
}

export class Rrdd {
  readonly socket: string;
  readonly folder: string;
  /** What it says when it is asked how long it is until the next reading. */
  seconds = 0.7;
  /** Methods, in the order in which they came. */
  readonly calls: string[] = [];
  readonly #open = new Map<string, number>();
  #server: Server | undefined;

  constructor(folder: string) {
    this.folder = path.join(folder, 'metrics');
    this.socket = path.join(folder, 'xcp-rrdd');
  }

  async start(): Promise<void> {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve) => this.#server?.listen(this.socket, resolve));
  }

  /** As when it is restarted: what it knew of plugins is gone. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve) ?? resolve(undefined));
    this.#server?.closeAllConnections();
    await closed;
    rmSync(this.socket, { force: true });
    for (const uid of this.#open.keys()) this.#forget(uid);
  }

  isRegistered(uid: string): boolean {
    return this.#open.has(uid);
  }

  /** By what was opened when it was registered, wherever the name leads by now. */
  read(uid: string): Reading {
    const fd = this.#open.get(uid);
    if (fd === undefined) throw new Error(`${uid} is not registered`);
    const content = Buffer.alloc(Math.min(HEAD_BYTES, fstatSync(fd).size));
    readSync(fd, content, 0, content.length, 0);
    return readRrd(content);
  }

  /** Of what stands at the place now: whether it is what is read. */
  isReadInPlace(uid: string): boolean {
    const fd = this.#open.get(uid);
    const place = path.join(this.folder, uid);
    if (fd === undefined || !existsSync(place)) return false;
    const other = openSync(place, 'r');
    const isSame = fstatSync(other).ino === fstatSync(fd).ino;
    closeSync(other);
    return isSame;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const piece of request) body += piece;
    const [, method = ''] = /<methodName>([^<]+)<\/methodName>/.exec(body) ?? [];
    const member = (name: string) =>
      new RegExp(`<name>${name}</name><value>([^<]*)</value>`).exec(body)?.[1];
    this.calls.push(method);
    const uid = member('uid') ?? '';
    const isV2 = member('protocol') === 'V2' && member('info') === 'Five_Seconds';
    if (method === 'Plugin.Local.register' && isV2) this.#register(uid, response);
    else if (method === 'Plugin.Local.deregister') {
      this.#forget(uid);
      succeed(response, '<nil/>');
    } else fail(response, method);
  }

  #register(uid: string, response: ServerResponse): void {
    try {
      if (!this.#open.has(uid)) this.#open.set(uid, openSync(path.join(this.folder, uid), 'r'));
      succeed(response, `<double>${this.seconds}</double>`);
    } catch (error) {
      fail(response, (error as Error).message);
    }
  }

  #forget(uid: string): void {
    const fd = this.#open.get(uid);
    if (fd !== undefined) closeSync(fd);
    this.#open.delete(uid);
  }
}

function succeed(response: ServerResponse, value: string): void {
  const members = `${member('Status', 'Success')}${member('Value', value)}`;
  response.end(methodResponse(members));
}

function fail(response: ServerResponse, why: string): void {
  const words = `<array><data><value>Internal_error</value><value>${why}</value></data></array>`;
  response.end(methodResponse(member('Status', 'Failure') + member('ErrorDescription', words)));
}

function member(name: string, value: string): string {
  return `<member><name>${name}</name><value>${value}</value></member>`;
}

function methodResponse(members: string): string {
  const param = `<param><value><struct>${members}</struct></value></param>`;
  return `<?xml version="1.0"?><methodResponse><params>${param}</params></methodResponse>`;
}
