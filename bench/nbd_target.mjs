// SPDX-License-Identifier: Apache-2.0
// A disk whose bytes are with an NBD server beside one on the same file, through the whole daemon
// on the loopback machine, round by round:
//   npm run build && node bench/nbd_target.mjs [rounds]
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { Machine } from './loopback/machine.mjs';
import { openTargets } from './loopback/targets.mjs';
import { figure, shown } from './report/figures.mjs';

const ROUNDS = 5;
const MILLISECONDS = 500;
const LENGTH = 256 << 20;
const SMALL = { blockBytes: 4096 };
const LARGE = { blockBytes: 1 << 20, depth: 8 };
const CASES = [
  { title: '4 KiB read, QD 1', operation: 'randread', ...SMALL, depth: 1 },
  { title: '4 KiB write, QD 1', operation: 'randwrite', ...SMALL, depth: 1 },
  { title: '4 KiB read, QD 32', operation: 'randread', ...SMALL, depth: 32 },
  { title: '4 KiB write, QD 32', operation: 'randwrite', ...SMALL, depth: 32 },
  { title: '1 MiB read, QD 8', operation: 'read', ...LARGE },
  { title: '1 MiB write, QD 8', operation: 'write', ...LARGE },
];

/** @type {import('node:child_process').ChildProcess[]} */
const servers = [];

/** @param {string} socket @param {string} program @param {string[]} args */
async function serve(socket, program, args) {
  servers.push(spawn(program, args, { stdio: 'inherit' }));
  while (!existsSync(socket)) await sleep(20);
  return `nbd:unix:${socket}:exportname=disk`;
}

/** What each guest's disk is, by name. @param {string} folder @param {string} image */
async function disks(folder, image) {
  const kit = path.join(folder, 'nbdkit.sock');
  const qemu = path.join(folder, 'qemu.sock');
  const own = await Machine.start({ reactors: 1 });
  const client = await ControlClient.connect(controlSocketPath(own.folder));
  const { export: made } = await client.call('exportAdd', {
    source: `share:file:${image}`,
    name: 'disk',
    allowWriters: true,
  });
  client.close();
  return {
    own,
    params: {
      file: `share:file:${image}`,
      nbdkit: await serve(kit, 'nbdkit', ['-f', '-U', kit, '-e', 'disk', 'file', image]),
      qemu: await serve(qemu, 'qemu-storage-daemon', [
        '--blockdev',
        `driver=file,node-name=f,filename=${image},aio=io_uring,cache.direct=on,locking=off`,
        '--nbd-server',
        `addr.type=unix,addr.path=${qemu}`,
        '--export',
        'type=nbd,id=e,node-name=f,name=disk,writable=on',
      ]),
      ringdisk: made.uri,
    },
  };
}

async function main() {
  const rounds = Number(process.argv[2] ?? ROUNDS);
  mkdirSync('out', { recursive: true });
  const targets = openTargets('out');
  const image = targets['file']?.path ?? '';
  const machine = await Machine.start({ reactors: 1 });
  const { own, params } = await disks(machine.folder, image);
  for (const one of CASES) {
    /** @type {Record<string, number[]>} */
    const found = {};
    for (let round = 0; round < rounds; round++) {
      for (const [name, target] of Object.entries(params)) {
        const guest = await machine.plug(target);
        await guest.frontend.connect();
        const { title: _, ...work } = one;
        const job = { ...work, offset: 0, length: LENGTH, milliseconds: MILLISECONDS, seed: 1 };
        const { requests, seconds, errors } = await guest.frontend.run(/** @type {any} */ (job));
        if (errors > 0) throw new Error(`${name}: ${errors} errors`);
        found[name] = [...(found[name] ?? []), requests / seconds];
        await machine.unplug(guest);
      }
    }
    for (const [name, all] of Object.entries(found))
      console.log(`${one.title.padEnd(20)} ${name.padEnd(9)} ${shown(figure(all))}`);
  }
  for (const server of servers) server.kill();
  await machine.close();
  await own.close();
  for (const target of Object.values(targets)) target.close();
  rmSync(machine.folder, { recursive: true, force: true });
}

await main();
