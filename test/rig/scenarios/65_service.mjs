// SPDX-License-Identifier: Apache-2.0
// ringdisk as README tells a new user to set it up: installed, as a systemd service, under a guest
// that xl creates. The commands are README's own, read from there and run as they stand.
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT, ringdiskJson, sumOf, takeOversIn } from '../dom0/daemon.mjs';
import { diskLine, Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { frozenFileSystem, fuseServer, suspendedDevice } from '../dom0/hanging_media.mjs';
import { note } from '../dom0/report.mjs';
import { bashBeside, journal, property, Service, systemctl } from '../dom0/service.mjs';
import { bash, run, waitFor } from '../dom0/shell.mjs';
import { blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import { mixedLoad, randomMix, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const INSTALLED = '/opt/ringdisk';
const KILLS = 3;
const LOAD_MS = 400_000;
const VDEVS = ['xvda', 'xvdb', 'xvdc'];

/** What `npm link` does as root, with a tree that was built elsewhere: dom0 has no npm. */
const LINK = `mkdir -p /opt /usr/local/lib/node_modules
rm -rf ${INSTALLED}
cp -r ${PROJECT} ${INSTALLED}
ln -sfn ${INSTALLED} /usr/local/lib/node_modules/ringdisk
bin=$(node -p 'require("${INSTALLED}/package.json").bin.ringdisk')
command=/usr/local/lib/node_modules/ringdisk/$bin
chmod 755 $command
ln -sf $command /usr/local/bin/ringdisk`;

/**
 * Runs commands where README says, as root's shell would.
 * @param {string} script
 * @returns {Promise<string>}
 */
function shell(script) {
  return bashBeside(`cd ${INSTALLED}\n${script}`);
}

/** @param {string} readme @param {RegExp} pattern with one group @param {string} what */
function excerpt(readme, pattern, what) {
  const found = pattern.exec(readme)?.[1];
  if (found === undefined) throw new Error(`README does not have ${what} where it was`);
  return found;
}

/** @returns {Promise<{ service: string, script: string, disk: string }>} */
async function readReadme() {
  const readme = await readFile(`${PROJECT}/README.md`, 'utf8');
  return {
    service: excerpt(readme, /as a service:\n\n {3}```\n([\s\S]*?)\n {3}```/, 'the service'),
    script: excerpt(readme, /\n {3}`(install -m 755 [^`]+)`/, 'the hotplug script'),
    disk: excerpt(readme, /disk = \[ "([^"]+)" \]/, 'the line of a disk'),
  };
}

/** @returns {Promise<{ service: Service, guest: Guest }>} */
async function installAndCreate() {
  const readme = await readReadme();
  await bash(LINK, { timeoutMs: 180_000 });
  const service = await Service.boot();
  await shell('ringdisk doctor').catch((error) => note(`doctor: ${error.message}`));
  await shell(readme.service).finally(journal);
  await service.find();
  await shell(readme.script);
  const target = await blockTarget(0);
  const disks = {
    // None: libxl runs block-tap, as which README installs ours.
    xvda: { target, script: '' },
    xvdb: { target: await nvmeTarget(1), script: '' },
    xvdc: { target: await fileTarget('service', 256 * MIB, '/srv/guests'), script: '' },
  };
  const line = readme.disk.replace(/target=.*/, `target=${target.spec}`);
  if (line !== diskLine('xvda', disks.xvda)) throw new Error(`README has another disk: ${line}`);
  const blkfront = { max_queues: 2, max_indirect_segments: 64 };
  const options = { disks, blkfront, memoryMib: 700 };
  const guest = await Guest.create('service', options).finally(journal);
  return { service, guest };
}

/** @param {{ guest: Guest }} shared */
async function serves({ guest }) {
  for (const vdev of VDEVS) await guest.run(randomMix(vdev));
  const list = await shell('ringdisk list');
  for (const vdev of VDEVS) {
    if (!new RegExp(`\\b${vdev}\\b.*Connected`).test(list)) throw new Error(list);
  }
}

/** @param {{ service: Service, guest: Guest }} shared */
async function isConfined({ service }) {
  const threads = await service.threadStatuses();
  const wanted = {
    CapInh: /^0+$/,
    CapPrm: /^0+$/,
    CapEff: /^0+$/,
    CapBnd: /^0+$/,
    CapAmb: /^0+$/,
    NoNewPrivs: /^1$/,
    Seccomp: /^2$/,
  };
  for (const status of threads) {
    for (const [field, pattern] of Object.entries(wanted)) {
      const value = new RegExp(`^${field}:\\s*(\\S+)$`, 'm').exec(status)?.[1] ?? 'missing';
      if (!pattern.test(value)) throw new Error(`a thread's ${field} is ${value}`);
    }
  }
  note(`${threads.length} threads: no capability, no new privileges, a system call filter`);
  await assertOutOfReach(service);
}

/**
 * What a daemon that was taken over would try first, tried with more rights than it has.
 * @param {Service} service
 */
async function assertOutOfReach(service) {
  const files = {
    "systemd's socket": 'test -e /run/systemd/private',
    "root's home": 'ls /root/.bashrc',
    'a system file': 'touch /etc/touched',
    'its unit': 'touch /etc/systemd/system/ringdisk.service',
    'its code': `touch ${INSTALLED}/package.json`,
    'other files': 'touch /var/lib/touched',
  };
  for (const [what, attempt] of Object.entries(files)) {
    if (await succeeds(service.runInside(attempt))) throw new Error(`it reaches ${what}`);
  }
  for (const device of ['/dev/xen/privcmd', '/dev/mem', '/dev/hvc0', '/dev/nvme0']) {
    if (await succeeds(service.runInGroup(`exec 3<${device}`))) {
      throw new Error(`it opens ${device}`);
    }
  }
  await service.runInGroup('exec 3<>/dev/xen/gntdev 4</dev/nvme0n1 5</dev/ng0n1');
}

/** @param {Promise<unknown>} attempt @returns {Promise<boolean>} */
function succeeds(attempt) {
  return attempt.then(
    () => true,
    () => false,
  );
}

/**
 * Does something to the service while the guest's load is verified.
 * @param {{ service: Service, guest: Guest }} shared
 * @param {() => Promise<void>} interrupt
 */
async function underLoad({ guest }, interrupt) {
  await guest.run(MARK);
  const busy = [];
  for (const vdev of VDEVS) {
    busy.push(await guest.start(mixedLoad(vdev), { timeoutMs: LOAD_MS }));
  }
  await guest.waitForLoad(VDEVS);
  const from = (await journal()).length;
  await interrupt();
  await guest.run(`sleep 2; ${VDEVS.map(stopLoad).join('; ')}`);
  const rounds = await Promise.all(busy.map(({ ended }) => ended));
  note(`rounds verified: ${rounds.map((lines) => lines.length)}`);
  const entries = (await journal()).slice(from);
  const takenOver = takeOversIn(entries);
  note(`${takenOver.length} disks taken over, ${sumOf(takenOver, 'replayed')} requests replayed`);
  await assertQuiet(guest);
  return takenOver.length;
}

/** @param {{ service: Service, guest: Guest }} shared */
async function restarted(shared) {
  const { service } = shared;
  const takenOver = await underLoad(shared, async () => {
    const before = Number(await property('MainPID'));
    await systemctl('restart', 'ringdisk');
    await service.waitForNext(before);
  });
  if (takenOver !== VDEVS.length) throw new Error(`${takenOver} disks were taken over`);
}

/** @param {{ service: Service, guest: Guest }} shared */
async function killed(shared) {
  const { service } = shared;
  const restarts = Number(await property('NRestarts'));
  const takenOver = await underLoad(shared, async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      const before = Number(await property('MainPID'));
      await systemctl('kill', '-s', 'KILL', 'ringdisk');
      await service.waitForNext(before);
      await sleep(Math.random() * 2000);
    }
  });
  const more = Number(await property('NRestarts')) - restarts;
  if (more !== KILLS) throw new Error(`systemd started it ${more} times`);
  if (takenOver !== KILLS * VDEVS.length) throw new Error(`${takenOver} disks were taken over`);
}

/** @param {{ service: Service, guest: Guest }} shared */
async function upgraded(shared) {
  const { service } = shared;
  await underLoad(shared, async () => {
    const before = Number(await property('MainPID'));
    note((await shell('ringdisk upgrade')).trim());
    await service.waitForNext(before);
  });
}

/** @param {{ guest: Guest }} shared */
async function attachesAndDetaches({ guest }) {
  const target = await fileTarget('attached', 64 * MIB, '/srv/guests');
  await guest.attach('xvdd', { target, script: '' });
  await guest.run(randomMix('xvdd'));
  await guest.detach('xvdd');
}

/**
 * A file where the unit lets nothing be written: xl says what to do.
 * @param {{ guest: Guest }} shared
 */
async function tellsWhatIsClosed({ guest }) {
  const target = await fileTarget('elsewhere', 64 * MIB);
  const refused = await guest.attach('xvde', { target, script: '' }).then(
    () => false,
    () => true,
  );
  if (!refused) throw new Error('xl attached it');
  // libxl looks no further than the backend's state: the reason is in the daemon's log.
  const reasons = (await journal()).flatMap(({ error }) =>
    /ReadWritePaths/.test(error) ? [error] : [],
  );
  if (reasons.length === 0) throw new Error('the log does not name the setting');
  note(reasons[0]);
  await run('xl', ['block-detach', guest.name, 'xvde']).catch(() => {});
  const isGone = async () => (await ringdiskJson('list')).vbds.length === VDEVS.length;
  await waitFor('the refused disk to go', isGone, { timeoutMs: 30_000 });
}

/** As XAPI does for an SR of files. @param {{ guest: Guest }} shared */
async function seesLaterMounts({ guest }) {
  const folder = '/run/sr-mount/later';
  const image = `${folder}/disk.img`;
  await shell(`mkdir ${folder}; mount -t tmpfs later ${folder}; truncate -s 32M ${image}`);
  await guest.attach('xvdd', { target: { spec: image, measured: image }, script: '' });
  await guest.run(randomMix('xvdd'));
  await guest.detach('xvdd');
  await shell(`umount ${folder}; rmdir ${folder}`);
}

/** @param {() => Promise<unknown>} body @returns {Promise<number>} seconds */
async function timed(body) {
  const started = Date.now();
  await body();
  return (Date.now() - started) / 1000;
}

/**
 * Each way of ending the service while a medium hangs: what is measured is until another disk has
 * served a verified load again, beside the same without a hung medium.
 * @param {() => Promise<import('../dom0/hanging_media.mjs').HangingMedium>} make
 * @param {string} work shell text that uses xvdd meanwhile
 */
function besideAHung(make, work) {
  return async (/** @type {{ service: Service, guest: Guest }} */ { service, guest }) => {
    const next = async (/** @type {() => Promise<unknown>} */ end) => {
      const before = Number(await property('MainPID'));
      await end();
      await service.waitForNext(before);
      await guest.run(randomMix('xvda'));
    };
    const medium = await make();
    const target = { spec: medium.path, measured: medium.path };
    await guest.attach('xvdd', { target, script: '' });
    await guest.run(`wait_for_disk xvdd; ${MARK}`);
    const usual = await timed(() => next(WAYS.restart));
    await medium.hang();
    const stuck = await guest.start(work, { timeoutMs: LOAD_MS });
    try {
      for (const [name, end] of Object.entries(WAYS)) {
        await waitFor('it to hang', medium.hangs, { timeoutMs: 60_000 });
        note(waitsOf(await shell('ringdisk list')));
        const seconds = await timed(() => next(end));
        note(`${name}: ${seconds.toFixed(1)} s beside a hung medium, usually ${usual.toFixed(1)}`);
        if (seconds > 2 * usual + 5) throw new Error(`${name} took ${seconds} s`);
      }
    } finally {
      await medium.goOn();
    }
    await stuck.ended;
    await assertQuiet(guest);
    await guest.detach('xvdd');
    await medium.remove();
  };
}

/** @param {string} list what `ringdisk list` printed @returns {string} its lines on what hangs */
function waitsOf(list) {
  return list
    .split('\n')
    .filter((line) => /hangs/.test(line))
    .join(' | ');
}

const WAYS = {
  restart: () => systemctl('restart', 'ringdisk'),
  kill: () => systemctl('kill', '-s', 'KILL', 'ringdisk'),
  'stop and start': async () => {
    await systemctl('stop', 'ringdisk');
    await systemctl('start', 'ringdisk');
  },
  upgrade: () => shell('ringdisk upgrade'),
};

const READ = 'dd if=/dev/xvdd bs=64k skip=64 count=16 iflag=direct of=/dev/null 2>/dev/null &';
const DISCARD = 'blkdiscard -o 16777216 -l 8388608 /dev/xvdd &';
const WRITE_AND_COMPARE = `dd if=/dev/urandom of=/tmp/new bs=64k count=16 2>/dev/null
dd if=/tmp/new of=/dev/xvdd bs=64k oflag=direct conv=fsync 2>/dev/null
dd if=/dev/xvdd bs=64k count=16 iflag=direct 2>/dev/null | cmp - /tmp/new`;

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'service',
    daemon: 'none',
    prepare: installAndCreate,
    tests: {
      "serves a guest, by README's steps": serves,
      'has no privilege': isConfined,
      'restarted under verified load': { full: true, run: restarted },
      'killed under verified load': { full: true, run: killed },
      'upgraded under verified load': upgraded,
      'restarted, killed, stopped and upgraded while a device hangs': besideAHung(
        suspendedDevice,
        `${READ}\n${WRITE_AND_COMPARE}\nwait`,
      ),
      'restarted, killed, stopped and upgraded while a file system is frozen': {
        full: true,
        run: besideAHung(frozenFileSystem, `${DISCARD}\n${WRITE_AND_COMPARE}\nwait`),
      },
      'restarted, killed, stopped and upgraded while a FUSE server stands still': {
        full: true,
        run: besideAHung(fuseServer, `${READ}\n${DISCARD}\n${WRITE_AND_COMPARE}\nwait`),
      },
      'xl block-attach and block-detach': attachesAndDetaches,
      'says which files the unit keeps it from': tellsWhatIsClosed,
      'sees what is mounted later, as SRs are': seesLaterMounts,
    },
  },
];
