// SPDX-License-Identifier: Apache-2.0
// A web server of this host with one file, and a certificate that it made itself.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { run } from './images.ts';

export interface HttpsImage {
  /** Of its certificate. */
  readonly ca: string;
  readonly url: string;
  /** Answers that it gave. */
  readonly requests: () => number;
  close(): Promise<void>;
}

export async function serveHttps(folder: string, content: Buffer): Promise<HttpsImage> {
  const [key, ca] = ['key.pem', 'ca.pem'].map((name) => path.join(folder, name)) as [
    string,
    string,
  ];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', key, '-out', ca];
  run(
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    ...subject,
    ...files,
  );
  let requests = 0;
  const options = { key: readFileSync(key), cert: readFileSync(ca) };
  const server: Server = createServer(options, (request, response) => {
    requests++;
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const isRange = from !== undefined && to !== undefined;
    const body = isRange ? content.subarray(Number(from), Number(to) + 1) : content;
    response.writeHead(isRange ? 206 : 200, {
      'accept-ranges': 'bytes',
      'content-length': body.length,
      ...(isRange && { 'content-range': `bytes ${from}-${to}/${content.length}` }),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    ca,
    url: `https://localhost:${port}/disk.img`,
    requests: () => requests,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
