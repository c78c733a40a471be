// SPDX-License-Identifier: Apache-2.0
// Storage of other hosts, all of them dom0 itself: what is between is the loopback interface, and
// it is cut by taking that down.
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { bash, run, waitFor } from './shell.mjs';
import { fileTarget } from './targets.mjs';

const MIB = 1 << 20;
const BYTES = 64 * MIB;
const WAIT_MS = 60_000;
const NQN = 'nqn.2026-11.test.rig:tcp';
const IQN = 'iqn.2026-11.test.rig:disk';

/** @param {string} name @returns {Promise<string>} a loop device of 64 MiB */
async function loopDevice(name) {
  const { spec } = await fileTarget(name, BYTES);
  return (await run('losetup', ['--find', '--show', '--direct-io=on', spec])).trim();
}

/** The way to all of them. @param {'up' | 'down'} state */
function link(state) {
  return run('ip', ['link', 'set', 'lo', state]);
}

/** @param {number} ms @param {() => Promise<unknown>} [meanwhile] */
export async function cut(ms, meanwhile = async () => {}) {
  await link('down');
  try {
    await sleep(ms);
    await meanwhile();
  } finally {
    await link('up');
  }
}

/** The kernel's NVMe target and its initiator, by TCP. */
export class NvmeOverTcp {
  /** @param {string} loop @param {string} name of the namespace's block device: nvme4n1 */
  constructor(loop, name) {
    this.loop = loop;
    this.block = `/dev/${name}`;
    this.generic = `/dev/${name.replace('nvme', 'ng')}`;
  }

  static async create() {
    const loop = await loopDevice('nvme-tcp');
    const how = `transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=${NQN}`;
    await bash(`modprobe nvmet-tcp; modprobe nvme-tcp
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/nvmet
mkdir subsystems/${NQN} subsystems/${NQN}/namespaces/1 ports/1
cd subsystems/${NQN}
echo 1 > attr_allow_any_host
echo -n ${loop} > namespaces/1/device_path
echo 1 > namespaces/1/enable
cd ../../ports/1
echo ipv4 > addr_adrfam; echo tcp > addr_trtype
echo 127.0.0.1 > addr_traddr; echo 4420 > addr_trsvcid
ln -s ../../subsystems/${NQN} subsystems/
echo ${how},keep_alive_tmo=2,reconnect_delay=1,ctrl_loss_tmo=600 > /dev/nvme-fabrics`);
    const find = `for s in /sys/class/nvme-subsystem/*; do
  [ "$(cat $s/subsysnqn)" = ${NQN} ] && basename $s | sed 's/-subsys//;s/$/n1/'; done; true`;
    const name = (await bash(find)).trim();
    const tcp = new NvmeOverTcp(loop, name);
    await bash(`until [ -b ${tcp.block} ] && [ -c ${tcp.generic} ]; do sleep 0.2; done`);
    return tcp;
  }

  async remove() {
    await bash(`for c in /sys/class/nvme/*; do
  if [ "$(cat $c/subsysnqn)" = ${NQN} ]; then echo 1 > $c/delete_controller; fi; done
cd /sys/kernel/config/nvmet
rm ports/1/subsystems/${NQN}
rmdir ports/1 subsystems/${NQN}/namespaces/1 subsystems/${NQN}
losetup --detach ${this.loop}`);
  }
}

/** The kernel's iSCSI target; the session is the hotplug script's business. */
export class Iscsi {
  /** For Xen's own hotplug script. */
  script = 'block-iscsi';
  // libxl puts "aio:" in front of it, and the script wants commas between its words.
  spec = `,portal=127.0.0.1:3260,iqn=${IQN}`;

  /** @param {string} loop */
  constructor(loop) {
    this.loop = loop;
  }

  static async create() {
    const loop = await loopDevice('iscsi');
    await bash(`modprobe target_core_iblock; modprobe iscsi_target_mod; modprobe iscsi_tcp
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/target
mkdir -p core/iblock_0/rig iscsi/${IQN}/tpgt_1/np/127.0.0.1:3260 iscsi/${IQN}/tpgt_1/lun/lun_0
echo udev_path=${loop} > core/iblock_0/rig/control
echo 1 > core/iblock_0/rig/enable
cd iscsi/${IQN}/tpgt_1
ln -s /sys/kernel/config/target/core/iblock_0/rig lun/lun_0/port
echo 0 > attrib/authentication; echo 1 > attrib/generate_node_acls
echo 1 > attrib/cache_dynamic_acls; echo 0 > attrib/demo_mode_write_protect
echo 1 > enable
[ -s /etc/iscsi/initiatorname.iscsi ] && grep -q ^InitiatorName /etc/iscsi/initiatorname.iscsi ||
  echo InitiatorName=iqn.2026-11.test.rig:dom0 > /etc/iscsi/initiatorname.iscsi
mkdir -p /run/lock/iscsi
pidof iscsid > /dev/null || iscsid`);
    return new Iscsi(loop);
  }

  async remove() {
    await bash(`iscsiadm -m node -T ${IQN} --logout > /dev/null 2>&1 || true
if pid=$(pidof iscsid); then kill $pid; fi
cd /sys/kernel/config/target
echo 0 > iscsi/${IQN}/tpgt_1/enable
rm iscsi/${IQN}/tpgt_1/lun/lun_0/port
rmdir iscsi/${IQN}/tpgt_1/np/* iscsi/${IQN}/tpgt_1/lun/lun_0 iscsi/${IQN}/tpgt_1 iscsi/${IQN}
rmdir iscsi core/iblock_0/rig core/iblock_0
losetup --detach ${this.loop}`);
  }
}

/** Two ends of a DRBD resource on one kernel, each under a name of its own. */
export class Drbd {
  /** @param {string[]} loops */
  constructor(loops) {
    this.loops = loops;
  }

  static async create() {
    const loops = [await loopDevice('drbd-a'), await loopDevice('drbd-b')];
    for (const node of ENDS) await writeFile(configOf(node), resource(node, loops));
    await bash('modprobe drbd usermode_helper=/bin/true');
    const drbd = new Drbd(loops);
    for (const node of ENDS) {
      await drbd.adm(node, '-- --force create-md');
      await drbd.adm(node, 'up');
    }
    await waitFor('the ends to meet', async () => (await drbd.state('a')).includes('Connected'), {
      timeoutMs: WAIT_MS,
    });
    // Both are empty: nothing to copy.
    await drbd.adm('a', '-- --clear-bitmap new-current-uuid');
    return drbd;
  }

  /** @param {End} node @param {string} command with its options in front: "--force create-md" */
  adm(node, command) {
    return bash(`__DRBD_NODE__=${node} drbdadm -c ${configOf(node)} ${command} ${nameOf(node)}`);
  }

  /** @param {End} node "Connected UpToDate/UpToDate" */
  async state(node) {
    const words = [await this.adm(node, 'cstate'), await this.adm(node, 'dstate')];
    return words.map((word) => word.trim()).join(' ');
  }

  /** @param {string} what @param {RegExp} pattern @returns {Promise<string>} what a's state is */
  async until(what, pattern) {
    const look = async () => {
      const state = await this.state('a');
      return pattern.test(state) ? state : undefined;
    };
    return /** @type {string} */ (await waitFor(what, look, { timeoutMs: WAIT_MS }));
  }

  async remove() {
    for (const node of ENDS) await this.adm(node, 'down');
    for (const loop of this.loops) await run('losetup', ['--detach', loop]);
  }
}

/** @typedef {'a' | 'b'} End */
const ENDS = /** @type {End[]} */ (['a', 'b']);

/** @param {End} node */
function nameOf(node) {
  return `rig-${node}`;
}

/** @param {End} node */
function configOf(node) {
  return `/run/rig/drbd-${node}.conf`;
}

/** @param {End} node @param {string[]} loops */
function resource(node, loops) {
  const ends = ENDS.map(
    (name, i) => `on ${name} {
    device /dev/drbd${i} minor ${i}; disk ${loops[i]}; meta-disk internal;
    address 127.0.0.1:${7001 + i};
  }`,
  );
  return `global { usage-count no; }
resource ${nameOf(node)} {
  net { protocol C; ping-int 2; ping-timeout 10; timeout 30; connect-int 3; }
  ${ends.join('\n  ')}
}
`;
}
