// SPDX-License-Identifier: Apache-2.0
// Volumes of ZFS under a guest: fio, discards, flushes, snapshots and reverts, growth, a disk that
// fails, and the ends of the manager and of the daemon. Pools and volumes are made by the commands.
import { readFile } from 'node:fs/promises';
import { Daemon, ringdisk } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { blockTarget } from '../dom0/targets.mjs';
import {
  exists,
  intentLog,
  loadZfs,
  manage,
  VolumeManager,
  zfsNumber,
} from '../dom0/volume_manager.mjs';
import {
  everyPattern,
  FILES_BYTES,
  load,
  makeFileSystem,
  mixedLoad,
  remountAndCompare,
  removeAndTrim,
  stopLoad,
  waitUntilGone,
  writeFiles,
} from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const LOAD_MS = 300_000;
const RESILVER_MS = 180_000;
const VOLUME = 'tank/ringdisk/vm1';
/** fio flushes between them: one less. */
const SYNCED = 64;

/** @param {0 | 1 | 2} index */
async function diskPath(index) {
  return (await blockTarget(index)).spec;
}

async function prepare() {
  await loadZfs();
  const manager = await VolumeManager.start();
  const disks = [await diskPath(0), await diskPath(1)];
  await manage('pool', 'create', 'tank', ...disks, '--layout', 'mirror', '--wipe');
  await manage('volume', 'create', 'tank/vm1', '300M');
  const guest = await Guest.create('zfs', { disks: { xvda: { target: zfsTarget('vm1') } } });
  return { guest, manager };
}

/** @param {string} key */
function zfsTarget(key) {
  return { spec: `zfs:tank/${key}`, measured: '/host/nvme0.img' };
}

/** @typedef {{ guest: Guest, manager: VolumeManager }} Shared */

/** @param {Shared} shared */
async function verified({ guest }) {
  await everyPattern(guest, 'xvda');
}

/** @param {Shared} shared */
async function trimmed({ guest }) {
  const used = async () => {
    await run('zpool', ['sync', 'tank']);
    return zfsNumber('referenced', VOLUME);
  };
  await guest.run(makeFileSystem('xvda', 'ext4'));
  await guest.run(writeFiles('xvda'));
  await guest.run(remountAndCompare('xvda', 'ext4'));
  const full = await used();
  await guest.run(removeAndTrim('xvda'));
  const after = await used();
  note(`the volume takes ${(full / MIB) | 0} MiB, after fstrim ${(after / MIB) | 0} MiB`);
  if (full - after < FILES_BYTES * 0.9) throw new Error('fstrim gave too little back');
  await guest.run('cd /; umount /mnt/xvda; /bin/blkdiscard -f /dev/xvda');
}

/** @returns {string} writes each of which is answered when it is durable */
function syncedWrites() {
  return `fio --name=synced --filename=/dev/xvda --direct=1 --rw=randwrite --bs=4k --fsync=1 \\
    --size=1M --offset=128M --number_ios=${SYNCED} --output=/tmp/synced.out`;
}

/** A guest's flush is on the pool's intent log, and on a log disk where there is one. */
async function flushed({ guest }) {
  const commits = await intentLog('zil_commit_count');
  await guest.run(syncedWrites());
  const more = (await intentLog('zil_commit_count')) - commits;
  note(`${SYNCED} writes, each flushed: ${more} commits of the intent log`);
  if (more < SYNCED - 1) throw new Error('not every flush was one of the volume');
  await manage('pool', 'add', 'tank', '--log', await diskPath(2), '--wipe');
  const count = () => intentLog('zil_itx_metaslab_slog_count');
  const before = await count();
  await guest.run(syncedWrites());
  const onLog = (await count()) - before;
  note(`with a log disk: ${onLog} records on it`);
  // The first still has a place where the log was before.
  if (onLog < SYNCED - 2) throw new Error('flushed writes did not go to the log disk');
  const { status } = await manage('pool', 'status', 'tank');
  await manage('pool', 'remove', 'tank', status.vdevs.log[0].name);
}

/** @param {string} vdev @param {string} letter @returns {string} fills 4 MiB, durably */
function fill(vdev, letter) {
  return `wait_for_disk ${vdev}
head -c 4194304 /dev/zero | tr '\\0' ${letter} |
  dd of=/dev/${vdev} bs=1M seek=200 oflag=direct iflag=fullblock conv=fsync 2>/dev/null`;
}

/** @param {string} vdev @param {string} letter @returns {string} fails unless fill() was last */
function expectFilled(vdev, letter) {
  return `wait_for_disk ${vdev}
test "$(dd if=/dev/${vdev} bs=1M skip=200 count=4 iflag=direct 2>/dev/null | tr -d ${letter} |
  wc -c)" = 0`;
}

/** Snapshots under load; what they hold is seen in a clone, and after a revert. */
async function snapshots({ guest }) {
  await guest.run(fill('xvda', 'a'));
  const busy = await guest.start(load('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  await manage('volume', 'snapshot', 'tank/vm1', '--name', 'first');
  await guest.run(`sleep 1; ${stopLoad('xvda')}`);
  await busy.ended;
  await guest.run(fill('xvda', 'b'));
  await manage('volume', 'clone', 'tank/vm1@first', 'tank/vm2');
  await guest.attach('xvdb', zfsTarget('vm2'));
  await guest.run(expectFilled('xvdb', 'a'));
  await guest.run(fill('xvdb', 'c'));
  await guest.run(expectFilled('xvda', 'b'));
  const refusal = await manage('volume', 'revert', 'tank/vm1', 'tank/vm1@first').catch(String);
  if (!/in use/.test(refusal)) throw new Error(`a revert under the guest: ${refusal}`);
  for (const vdev of ['xvda', 'xvdb']) {
    await guest.detach(vdev);
    await guest.run(waitUntilGone(vdev));
  }
  await manage('volume', 'revert', 'tank/vm1', 'tank/vm1@first');
  await guest.attach('xvda', zfsTarget('vm1'));
  await guest.attach('xvdb', zfsTarget('vm2'));
  await guest.run(expectFilled('xvda', 'a'));
  await guest.run(expectFilled('xvdb', 'c'));
}

/** The snapshot first, then the volume that the clone was made of. */
async function destroyed({ guest }) {
  await manage('volume', 'destroy', 'tank/vm1@first');
  await guest.run(expectFilled('xvdb', 'c'));
  await guest.detach('xvdb');
  await guest.run(waitUntilGone('xvdb'));
  await manage('volume', 'destroy', 'tank/vm2');
  const left = await run('zfs', ['list', '-H', '-r', '-t', 'all', '-o', 'name', 'tank/ringdisk']);
  const names = left.trim().split('\n');
  if (names.some((name) => name.includes('@') || name.includes('vm2') || name.includes(':old'))) {
    throw new Error(`left in the pool: ${names}`);
  }
}

/** @param {Shared} shared */
async function grown({ guest }) {
  const busy = await guest.start(load('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  await manage('volume', 'resize', 'tank/vm1', '400M');
  await ringdisk('resize', guest.vbd('xvda'));
  await guest.run(`tries=0
until [ "$(cat /sys/block/xvda/size)" = $((400 * 2048)) ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.2
done
${stopLoad('xvda')}`);
  await busy.ended;
}

/** @param {Shared} shared */
async function diskFails({ guest }) {
  const busy = await guest.start(mixedLoad('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  await guest.run(MARK);
  const failed = await diskPath(1);
  await manage('pool', 'offline', 'tank', failed);
  const status = async () => (await manage('pool', 'status', 'tank')).status;
  const degraded = await status();
  if (degraded.healthy || degraded.state !== 'DEGRADED') {
    throw new Error(`a pool without a disk is ${JSON.stringify(degraded)}`);
  }
  await manage('pool', 'replace', 'tank', failed, await diskPath(2), '--wipe');
  const isWhole = async () => (await status()).healthy;
  await waitFor('the new disk to be filled', isWhole, { timeoutMs: RESILVER_MS, everyMs: 3000 });
  await guest.run(stopLoad('xvda'));
  await busy.ended;
  await assertQuiet(guest);
}

/** Neither needs the other, nor the guest either of them to stay. @param {Shared} shared */
async function killed(shared) {
  const { guest } = shared;
  const busy = await guest.start(mixedLoad('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  await guest.run(MARK);
  await shared.manager.end('SIGKILL');
  await Daemon.killAndStart();
  shared.manager = await VolumeManager.start();
  await manage('volume', 'snapshot', 'tank/vm1', '--name', 'after');
  await guest.run(`sleep 2; ${stopLoad('xvda')}`);
  await busy.ended;
  await assertQuiet(guest);
}

/** @param {Shared} shared */
async function takenAway({ guest, manager }) {
  await guest.destroy();
  const isFree = async () => (await manage('volume', 'destroy', 'tank/vm1').catch(() => 0)) !== 0;
  await waitFor('the volume to be free', isFree, { timeoutMs: 60_000, everyMs: 1000 });
  await manage('pool', 'destroy', 'tank', '--yes');
  if (await exists('/dev/zvol/tank')) throw new Error('devices of the pool are left');
  await manager.end('SIGTERM');
  const { length } = await readFile('/host/logs/manager.log');
  if (length > MIB) throw new Error(`the manager has written ${length} bytes to its log`);
  await run('modprobe', ['-r', 'zfs']);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'zfs',
    prepare,
    full: true,
    needs: 'zfs',
    tests: {
      'every pattern of fio, verified': verified,
      'what the guest discards goes back to the pool': trimmed,
      'a flush is on the intent log, and on a log disk': flushed,
      'a snapshot under load, its clone and a revert': snapshots,
      'destroyed in any order': destroyed,
      'grows under load': grown,
      'a disk fails under load and is replaced': diskFails,
      'the manager and the daemon are killed under load': killed,
      'nothing is left of the pool': takenAway,
    },
  },
];
