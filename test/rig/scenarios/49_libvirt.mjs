// SPDX-License-Identifier: Apache-2.0
// libvirt's driver for Xen. It names no hotplug script, so its disks of <driver name='tap'/> need
// ours where libxl looks by itself.
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { installAsBlockTap } from '../dom0/daemon.mjs';
import { Guest, kernelArguments } from '../dom0/guest.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const START_MS = 180_000;
const NAME = 'virt';

/** @param {string[]} args */
function virsh(...args) {
  return run('virsh', ['-q', '-c', 'xen:///system', ...args], { timeoutMs: START_MS });
}

/** @param {'file' | 'block'} kind @param {string} path @param {string} vdev */
function disk(kind, path, vdev) {
  return `<disk type='${kind}' device='disk'>
  <driver name='tap' type='raw'/>
  <source ${kind === 'file' ? 'file' : 'dev'}='${path}'/>
  <target dev='${vdev}' bus='xen'/>
</disk>`;
}

/** @param {string} root its first disk */
function domain(root) {
  return `<domain type='xen'>
  <name>${NAME}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>/rig/guest.vmlinux</kernel>
    <initrd>/run/rig/guest.img</initrd>
    <cmdline>${kernelArguments('hvc0')}</cmdline>
  </os>
  <devices>
    ${root}
    <console type='pty'><target type='xen' port='0'/></console>
  </devices>
</domain>`;
}

/** The emulated CPU lacks this feature, and so would be none of those that libvirt knows. */
const LEAST_CPU = '/usr/share/libvirt/cpu_map/x86_486.xml';

/** Without polkit, which has no bus here. */
async function startLibvirt() {
  await run('sed', ['-i', "/name='vme'/d", LEAST_CPU]);
  await writeFile('/etc/libvirt/libvirtd.conf', 'auth_unix_ro = "none"\nauth_unix_rw = "none"\n');
  await mkdir('/run/libvirt', { recursive: true });
  spawn('libvirtd', ['--daemon'], { stdio: 'ignore' });
  const answers = () =>
    virsh('list').then(
      () => true,
      () => false,
    );
  await waitFor('libvirt', answers, { timeoutMs: START_MS, everyMs: 1000 });
}

async function prepare() {
  await installAsBlockTap();
  await startLibvirt();
  const { spec } = await fileTarget('virt', 256 * MIB);
  await writeFile('/run/rig/virt.xml', domain(disk('file', spec, 'xvda')));
  await virsh('define', '/run/rig/virt.xml');
  await virsh('start', NAME);
  return Guest.created(NAME);
}

/** @param {Guest} guest */
async function serves(guest) {
  await guest.run(randomMix('xvda'));
}

/** @param {Guest} guest */
async function attachAndDetach(guest) {
  const { spec } = await blockTarget(0);
  await writeFile('/run/rig/virt-disk.xml', disk('block', spec, 'xvdb'));
  const busy = await guest.start(load('xvda', '64M'));
  for (const _round of [1, 2]) {
    await virsh('attach-device', NAME, '/run/rig/virt-disk.xml', '--live');
    await guest.run(randomMix('xvdb'));
    await virsh('detach-device', NAME, '/run/rig/virt-disk.xml', '--live');
    await guest.run(waitUntilGone('xvdb'));
  }
  await guest.run(stopLoad('xvda'));
  await busy.ended;
}

/** @param {Guest} guest */
async function destroyAndStart(guest) {
  await guest.start(load('xvda', '64M'));
  await guest.waitForLoad(['xvda']);
  await virsh('destroy', NAME);
  Guest.all.delete(guest);
  await virsh('start', NAME);
  const heir = await Guest.created(NAME);
  await heir.run(randomMix('xvda'));
  await virsh('destroy', NAME);
  Guest.all.delete(heir);
  await virsh('undefine', NAME);
  await run('pkill', ['-x', 'libvirtd']);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'libvirt',
    full: true,
    prepare,
    tests: {
      'a defined guest starts on a disk of driver tap': serves,
      'attach-device and detach-device while another disk is busy': attachAndDetach,
      'destroyed under load, started again, undefined': destroyAndStart,
    },
  },
];
