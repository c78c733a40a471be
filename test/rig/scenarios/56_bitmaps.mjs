// SPDX-License-Identifier: Apache-2.0
// A backup of what has changed, by a dirty bitmap and the NBD clients that people use.
import { Daemon, ringdisk, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { bash } from '../dom0/shell.mjs';
import { FILES_DIR, fileTarget } from '../dom0/targets.mjs';
import { load, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const CLIENT_MS = 180_000;
const COPY = `${FILES_DIR}/incremental.img`;

const prepare = async () =>
  Guest.create('bitmaps', { disks: { xvda: await fileTarget('bitmaps', 128 * MIB) } });

/** @param {string} vbd @param {string[]} options @param {(uri: string) => Promise<unknown>} body */
async function whileExported(vbd, options, body) {
  const added = await ringdisk('export', 'add', vbd, '--read-only', '--name', 'tape', ...options);
  try {
    await body(added.trim());
  } finally {
    await ringdisk('export', 'remove', 'tape');
  }
}

/** Writes what the bitmap marks over the older copy. @param {string} uri @param {string} bitmap */
async function copyChanged(uri, bitmap) {
  const map = await bash(`nbdinfo --map=qemu:dirty-bitmap:${bitmap} --json '${uri}'`);
  /** @type {{ offset: number, length: number, type: number }[]} */
  const extents = JSON.parse(map);
  const dirty = extents.filter(({ type }) => type === 1);
  for (const { offset, length } of dirty) {
    const range = `skip=${offset} seek=${offset} count=${length} bs=1M`;
    const flags = 'iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes';
    await bash(`dd if=/dev/nbd0 of=${COPY} ${range} ${flags} conv=notrunc 2>/dev/null`);
  }
  return dirty.reduce((bytes, { length }) => bytes + length, 0);
}

/** @param {Guest} guest */
async function incremental(guest) {
  const vbd = guest.vbd('xvda');
  await guest.run(`wait_for_disk xvda; ${MARK}
dd if=/dev/urandom of=/dev/xvda bs=1M count=32 oflag=direct conv=fsync 2>/dev/null`);
  await ringdisk('bitmap', 'add', vbd, 'since');
  await whileExported(vbd, [], (uri) => bash(`nbdcopy '${uri}' ${COPY}`, { timeoutMs: CLIENT_MS }));
  const busy = await guest.start(load('xvda', '64M'), { timeoutMs: 300_000 });
  await guest.waitForLoad(['xvda']);
  await Daemon.killAndStart();
  await guest.run(`sleep 3; ${stopLoad('xvda')}`);
  await busy.ended;
  const [sum] = await guest.run(`dd if=/dev/urandom of=/dev/xvda bs=4k seek=1000 count=3 \\
  oflag=direct conv=fsync 2>/dev/null
/bin/blkdiscard -o 16M -l 1M /dev/xvda
sha256sum /dev/xvda | cut -d ' ' -f 1`);
  const { bitmaps } = await ringdiskJson('bitmap', 'list', vbd);
  if (bitmaps[0].state !== 'recording') throw new Error(JSON.stringify(bitmaps));
  await whileExported(vbd, ['--bitmap', 'since'], async (uri) => {
    await bash(`modprobe nbd max_part=0
qemu-nbd -r -f raw --connect=/dev/nbd0 '${uri}'
until [ "$(blockdev --getsize64 /dev/nbd0)" -gt 0 ]; do sleep 0.2; done`);
    try {
      const bytes = await copyChanged(uri, 'since');
      note(`${(bytes / MIB).toFixed(2)} of 128 MiB were copied again`);
      if (bytes > 16 * MIB) throw new Error('that is more than was written');
    } finally {
      await bash('qemu-nbd -d /dev/nbd0');
    }
  });
  const copied = (await bash(`sha256sum ${COPY}`)).split(' ')[0];
  if (copied !== sum) throw new Error(`the guest has ${sum}, the copy is ${copied}`);
  await ringdisk('bitmap', 'remove', vbd, 'since');
  await assertQuiet(guest);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'bitmaps',
    prepare,
    full: true,
    tests: { 'an incremental backup, the daemon killed meanwhile': incremental },
  },
];
