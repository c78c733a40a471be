// SPDX-License-Identifier: Apache-2.0
// Pools and managers for tests. Whatever a test leaves is taken away after it.
import assert from 'node:assert/strict';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { createLogger } from '/host/ringdisk/dist/log.js';
import { HostKey } from '/host/ringdisk/dist/replication/host_key.js';
import { Jobs } from '/host/ringdisk/dist/replication/jobs.js';
import { makeManager, openContext, openManager } from '/host/ringdisk/dist/volume/manager.js';
import { runCommand } from '/host/ringdisk/dist/zfs/command.js';
import { startProcess } from '/host/ringdisk/dist/zfs/process.js';
import { run, sh } from './shell.mjs';

export const GIB = 1024 ** 3;
export const MIB = 1024 ** 2;
const log = createLogger({ level: 'silent' });

/** @param {number} number from 0 */
export function disk(number) {
  return `/dev/disk/by-id/virtio-disk${number}`;
}

/** @param {import('../../../src/zfs/command.ts').RunCommand} [command] */
export function manage(command = runCommand) {
  return openManager(log, command);
}

const HOST_KEY = new HostKey();

/** A manager with replication jobs. */
export async function manageJobs(start = startProcess) {
  const context = await openContext(log);
  const manager = makeManager(context);
  const jobs = new Jobs({ context, manager, start, hostKey: HOST_KEY, log });
  return { context, manager, jobs };
}

let poolsMade = 0;

/**
 * A manager and a pool of one disk with a store.
 * @param {object} [wish] as createPool() takes it
 */
export async function freshPool(wish = {}) {
  const manager = await manage();
  const pool = `t${++poolsMade}`;
  await manager.createPool({ pool, layout: 'stripe', disks: [disk(0)], wipe: true, ...wish });
  return { manager, pool };
}

/** Pools go, and what they leave on the disks is wiped by the next one. */
export async function cleanUp() {
  const names = (await run('zpool', 'list', '-H', '-o', 'name')).split('\n').filter(Boolean);
  for (const name of names) await run('zpool', 'destroy', '-f', name);
}

/** @param {string} pool @returns {Promise<string[]>} all that is in its store, in ZFS's words */
export async function datasets(pool) {
  const text = await sh(`zfs list -H -r -t all -o name ${pool}/ringdisk`);
  return text
    .trim()
    .split('\n')
    .filter((name) => name !== `${pool}/ringdisk` && !name.endsWith('/reserve:'));
}

const BLOCK = 64 * 1024;

/** Fills 64 KiB at `block` with one byte, durably. @param {string} device */
export function write(device, block, byte) {
  const fd = openSync(device, 'r+');
  try {
    writeSync(fd, Buffer.alloc(BLOCK, byte), 0, BLOCK, block * BLOCK);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** @param {string} device @returns {number} the byte that 64 KiB at `block` are filled with */
export function read(device, block) {
  const fd = openSync(device, 'r');
  try {
    const buffer = Buffer.alloc(BLOCK);
    readSync(fd, buffer, 0, BLOCK, block * BLOCK);
    const [byte] = buffer;
    assert.ok(
      buffer.every((one) => one === byte),
      `block ${block} of ${device} is torn`,
    );
    return byte ?? 0;
  } finally {
    closeSync(fd);
  }
}

/** @param {Promise<unknown>} promise @param {string} code of a ManagerError */
export async function refused(promise, code) {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  assert.equal(error?.code, code, `not refused with ${code}: ${error?.stack ?? 'it went well'}`);
  return error;
}
