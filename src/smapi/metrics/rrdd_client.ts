// SPDX-License-Identifier: Apache-2.0
// rrdd, XAPI's collector of metrics, over its socket: XML-RPC by HTTP. Two calls are all we need of
// it, so they are written as they are and the one number that comes back is looked for.
import { request } from 'node:http';

export const RRDD_SOCKET = '/var/lib/xcp/xcp-rrdd';
/** It may be busy for some seconds with its own work. */
const ANSWER_MS = 10_000;
const ANSWER_BYTES_MAX = 64 * 1024;

export class RrddClient {
  readonly #socket: string;

  constructor(socket = RRDD_SOCKET) {
    this.#socket = socket;
  }

  /**
   * The plugin's file is read from now on, every 5 s; it may be said again. The seconds until it is
   * read next, negative where rrdd is late.
   */
  async register(uid: string): Promise<number> {
    const body = await this.#call('Plugin.Local.register', {
      uid,
      info: 'Five_Seconds',
      protocol: 'V2',
    });
    const [, seconds] = /<double>\s*([-+0-9.eE]+)\s*<\/double>/.exec(body) ?? [];
    const number = Number(seconds);
    if (Number.isFinite(number)) return number;
    throw new Error(`rrdd does not say when it reads next: ${body.slice(0, 200)}`);
  }

  /** Done also where it is not known. */
  async deregister(uid: string): Promise<void> {
    await this.#call('Plugin.Local.deregister', { uid });
  }

  async #call(method: string, params: Record<string, string>): Promise<string> {
    const body = await post(this.#socket, callOf(method, params));
    if (/<name>Status<\/name>\s*<value>(<string>)?Success</.test(body)) return body;
    throw new Error(`rrdd refuses ${method}: ${body.slice(0, 500)}`);
  }
}

/** All parameters in one structure, by name, and all of them words of ours. */
function callOf(method: string, params: Record<string, string>): string {
  const members = Object.entries(params).map(
    ([name, value]) => `<member><name>${name}</name><value>${value}</value></member>`,
  );
  return (
    `<?xml version="1.0"?><methodCall><methodName>${method}</methodName><params><param><value>` +
    `<struct>${members.join('')}</struct></value></param></params></methodCall>`
  );
}

function post(socketPath: string, body: string): Promise<string> {
  const headers = { 'Content-Type': 'text/xml', 'Content-Length': Buffer.byteLength(body) };
  const signal = AbortSignal.timeout(ANSWER_MS);
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: '/', method: 'POST', headers, agent: false, signal },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (piece: string) => {
          text += piece;
          if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('rrdd says too much'));
        });
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`rrdd answers ${response.statusCode}`));
        });
      },
    );
    asked.on('error', reject);
    asked.end(body);
  });
}
