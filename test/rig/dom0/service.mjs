// SPDX-License-Identifier: Apache-2.0
// The daemon as a systemd service. The rig's dom0 has no systemd at its head: one is started in a
// PID namespace of its own, with dom0's /run and devices, and with nothing to do but this service.
import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { Daemon } from './daemon.mjs';
import { run, waitFor } from './shell.mjs';

const UNIT = 'ringdisk';
const LOGS = '/host/logs';
const SYSTEMD_UP_MS = 240_000;
const COMMAND_MS = 180_000;
/** "container": it shall not set up hardware. */
/** A container's systemd leaves mounts private; a host's shares them with its services. */
const BOOT = `mount --make-rshared /
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=rig
exec /usr/lib/systemd/systemd --unit=basic.target`;
/** What a system does when it comes up, and dom0 has done or does not need. */
const MASKED = [
  'dev-hugepages.mount',
  'dev-mqueue.mount',
  'kmod-static-nodes.service',
  'ldconfig.service',
  'proc-sys-fs-binfmt_misc.automount',
  'run-lock.mount',
  'sys-fs-fuse-connections.mount',
  'sys-kernel-config.mount',
  'sys-kernel-debug.mount',
  'sys-kernel-tracing.mount',
  'systemd-binfmt.service',
  'systemd-firstboot.service',
  'systemd-hwdb-update.service',
  'systemd-journal-catalog-update.service',
  'systemd-journal-flush.service',
  'systemd-modules-load.service',
  'systemd-pstore.service',
  'systemd-random-seed.service',
  'systemd-remount-fs.service',
  'systemd-sysctl.service',
  'systemd-sysusers.service',
  'systemd-tmpfiles-setup-dev-early.service',
  'systemd-tmpfiles-setup-dev.service',
  'systemd-tmpfiles-setup.service',
  'systemd-udev-trigger.service',
  'systemd-udevd-control.socket',
  'systemd-udevd-kernel.socket',
  'systemd-udevd.service',
  'systemd-update-done.service',
  'timers.target',
  'tmp.mount',
];

let systemdPid = 0;

/**
 * Runs a command where systemd runs: it answers nobody outside.
 * @param {string} command
 * @param {string[]} args
 */
export async function runBeside(command, args) {
  // Looked up once: beside guests under load that alone takes a second.
  systemdPid ||= await outerPid('1');
  const inside = ['-t', String(systemdPid), '--pid', '--mount', '--', command, ...args];
  return run('nsenter', inside, { timeoutMs: COMMAND_MS });
}

/** As bash(), where systemd runs. @param {string} script */
export function bashBeside(script) {
  return runBeside('bash', ['-ec', script]);
}

/**
 * Starts a program where systemd mounts; it can be signalled as any other.
 * @param {string} command
 * @param {string[]} args
 */
export async function spawnBeside(command, args) {
  systemdPid ||= await outerPid('1');
  const inside = ['-t', String(systemdPid), '--mount', '--', command, ...args];
  return spawn('nsenter', inside, { stdio: 'ignore' });
}

/** @param {...string} args @returns {Promise<string>} what it prints */
export function systemctl(...args) {
  return runBeside('systemctl', args);
}

/** @param {string} name @returns {Promise<string>} a property of the service; several: by lines */
export async function property(name) {
  return (await systemctl('show', '--value', '-p', name, UNIT)).trim();
}

/** @returns {Promise<any[]>} the entries of the daemons' logs, from the journal */
export async function journal() {
  const text = await runBeside('journalctl', ['--no-pager', '-o', 'cat', '-u', UNIT]);
  await writeFile(`${LOGS}/service.log`, text);
  return text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
}

/** @param {string} inner a process's number in systemd's namespace; systemd is "1" */
async function outerPid(inner) {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    if (new RegExp(`^NSpid:\\s+${pid}\\s+${inner}$`, 'm').test(status)) return Number(pid);
  }
  throw new Error(`systemd has no process ${inner}`);
}

/** Whoever runs as the service now; it comes back with another process when that ends. */
export class Service extends Daemon {
  #pid = 0;

  /** Boots systemd; the service is not started yet. */
  static async boot() {
    await mkdir('/etc/systemd/system', { recursive: true });
    for (const unit of MASKED) {
      await rm(`/etc/systemd/system/${unit}`, { force: true });
      await symlink('/dev/null', `/etc/systemd/system/${unit}`);
    }
    // Without one, systemd takes this for the first boot, and enables all there is.
    await writeFile('/etc/machine-id', `${'5'.repeat(32)}\n`);
    const namespaces = ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc'];
    const child = spawn('unshare', [...namespaces, 'sh', '-ec', BOOT], { stdio: 'ignore' });
    const service = new Service(child, 'systemd');
    Daemon.current = service;
    systemdPid = 0;
    const isUp = async () => {
      if (service.ended) throw new Error(`systemd ended: ${service.ended}`);
      const state = await systemctl('is-system-running').catch((error) => error.message);
      return /(^|: )(running|degraded)$/.test(state.trim());
    };
    await waitFor('systemd', isUp, { timeoutMs: SYSTEMD_UP_MS, everyMs: 1000 });
    return service;
  }

  get pid() {
    return this.#pid;
  }

  /** Looks up the process that is the service now. */
  async find() {
    this.#pid = await outerPid(await property('MainPID'));
  }

  /**
   * Runs shell text with the file systems that the service sees, as a root with every capability.
   * @param {string} script
   */
  runInside(script) {
    return run('nsenter', ['-t', String(this.#pid), '--mount', 'sh', '-c', script]);
  }

  /**
   * Runs shell text in the service's control group, and so with its devices only.
   * @param {string} script
   */
  async runInGroup(script) {
    const joined = `echo $$ > /sys/fs/cgroup${await property('ControlGroup')}/cgroup.procs`;
    return bashBeside(`${joined}; ${script}`);
  }

  /**
   * Waits until another process than `before` is the service, and ready.
   * @param {number} before its number as systemd knows it
   */
  async waitForNext(before) {
    const isNext = async () => {
      const [pid, state] = (await property('MainPID,ActiveState')).split('\n');
      return state === 'active' && Number(pid) !== before;
    };
    await waitFor('the next daemon', isNext, { timeoutMs: COMMAND_MS, everyMs: 1000 });
    await this.find();
  }

  /** Stops the service, then systemd. */
  async stop() {
    await journal();
    await systemctl('stop', UNIT);
    await super.kill();
    // Who looks there whether systemd runs, udev among them, must not find it.
    await rm('/run/systemd/system', { recursive: true, force: true });
  }
}
