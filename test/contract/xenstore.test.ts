// SPDX-License-Identifier: Apache-2.0
// The real xenstored runs the same suite in the rig: see xenstore_live.ts.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { MemoryStore } from '../../src/xenstore/memory_store.ts';
import { serveXenstore, type XenstoreServer } from '../../src/xenstore/server.ts';
import { xenstoreContract } from './xenstore.ts';

const memory = new MemoryStore();
xenstoreContract('MemoryXenstore', async () => memory.client(0));

let folder: string;
let server: XenstoreServer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ringdisk-xenstore-'));
  server = await serveXenstore(new MemoryStore(), { path: join(folder, 'socket'), domid: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});
xenstoreContract('XenstoreConnection', () => openXenstore({ path: join(folder, 'socket') }));
