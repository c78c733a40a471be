// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` makes of Xen, of the toolstack's side and of other backends: pure.

import type { HostFacts } from './host_facts.ts';
import type { Verdict } from './host_verdicts.ts';
import { KEEP_BLKBACK_OUT } from './other_backends.ts';
import { formatBytes } from './units.ts';

/** The first whose libxl takes backendtype=tap without a kernel module. */
const XEN_MIN = [4, 19] as const;
/** Journals and stats pages of a disk with four queues, about. */
const RUNTIME_BYTES_PER_DISK = 2 * 1024 * 1024;
const RUNTIME_BYTES_MIN = 64 * 1024 * 1024;
/** A disk has some 34 nodes, and xenstored gives a domain 1000 by default. */
const DRIVER_DOMAIN_DISKS = 29;

export function judgeXen(facts: HostFacts): Verdict[] {
  return [
    xenVersionVerdict(facts),
    scriptVerdict(facts),
    unitVerdict(facts),
    spaceVerdict(facts),
    blkbackVerdict(facts),
    tapbackVerdict(facts),
    qemuVerdict(facts),
    lvmVerdict(facts),
    driverDomainVerdict(facts),
  ].filter((verdict) => verdict !== undefined);
}

function xenVersionVerdict({ xenVersion }: HostFacts): Verdict {
  const check = 'Xen';
  if (xenVersion === undefined) {
    return {
      check,
      status: 'fail',
      found: 'not here',
      breaks: 'there are no guests to serve',
      remedy: 'boot this system under Xen, or try --platform loopback',
    };
  }
  const [major = 0, minor = 0] = xenVersion.split('.').map(Number);
  const isEnough = major > XEN_MIN[0] || (major === XEN_MIN[0] && minor >= XEN_MIN[1]);
  if (isEnough) return { check, status: 'ok', found: xenVersion };
  return {
    check,
    status: 'warn',
    found: xenVersion,
    breaks: `libxl (xl, libvirt) before ${XEN_MIN.join('.')} refuses backendtype=tap`,
    remedy: 'run a newer Xen, or serve kind vbd with phy: disks in a domain without xen-blkback',
  };
}

function scriptVerdict({ scripts }: HostFacts): Verdict {
  const check = 'hotplug script';
  const found = Object.entries(scripts)
    .map(([name, installed]) => `${name}: ${installed}`)
    .join(', ');
  const states = Object.values(scripts);
  if (scripts['block-tap'] === 'same') return { check, status: 'ok', found };
  const install = 'install -m 755 src/host/block-ringdisk /etc/xen/scripts/block-tap';
  if (states.includes('same') && !states.includes('other version')) {
    return {
      check,
      status: 'warn',
      found,
      breaks: 'disks need script=block-ringdisk, and then neither boot an HVM guest nor pygrub',
      remedy: `${install}, where no blktap is used`,
    };
  }
  const isOld = states.includes('other version');
  return {
    check,
    status: 'warn',
    found,
    breaks: isOld
      ? 'the script is of another version than the daemon'
      : 'libxl (xl, libvirt) attaches no disk without one; XAPI needs none',
    remedy: `${install}, where no blktap is used, or as block-ringdisk`,
  };
}

function unitVerdict({ unit }: HostFacts): Verdict | undefined {
  const check = 'systemd unit';
  if (unit === undefined) return undefined;
  if (unit === 'same') return { check, status: 'ok', found: 'installed' };
  return {
    check,
    status: 'warn',
    found: unit,
    breaks:
      unit === 'missing'
        ? 'a daemon that crashes is not started again, and its guests wait'
        : 'the service may be started or confined otherwise than this version expects',
    remedy: 'install -D -m 644 src/host/ringdisk.service /etc/systemd/system/ringdisk.service',
  };
}

function spaceVerdict({ runtimeSpace }: HostFacts): Verdict {
  const check = 'room for journals';
  const { isTmpfs, freeBytes } = runtimeSpace;
  const found = `${formatBytes(freeBytes)} free${isTmpfs ? '' : ', not on tmpfs'}`;
  if (isTmpfs && freeBytes >= RUNTIME_BYTES_MIN) return { check, status: 'ok', found };
  const disks = Math.floor(freeBytes / RUNTIME_BYTES_PER_DISK);
  return {
    check,
    status: 'warn',
    found,
    breaks: isTmpfs
      ? `about ${disks} more disks with four queues fit`
      : 'each request is written down there, which a disk makes slow, and which survives a boot',
    remedy: isTmpfs ? 'mount -o remount,size=512M /run' : 'keep the runtime directory on /run',
  };
}

function blkbackVerdict({ blkbackLoaded }: HostFacts): Verdict {
  const check = 'xen-blkback';
  if (!blkbackLoaded) return { check, status: 'ok', found: 'not loaded' };
  return {
    check,
    status: 'warn',
    found: 'loaded',
    breaks: 'it takes the disks under backend/vbd: kind vbd is refused; vbd3 is not its business',
    remedy: `use backendtype=tap (vbd3); for kind vbd rmmod xen-blkback and ${KEEP_BLKBACK_OUT}`,
  };
}

function tapbackVerdict({ tapbackPids }: HostFacts): Verdict {
  const check = 'tapback';
  if (tapbackPids.length === 0) return { check, status: 'ok', found: 'not running' };
  return {
    check,
    status: 'warn',
    found: `running (pid ${tapbackPids.join(', ')})`,
    breaks: 'it takes the disks under backend/vbd3, so ringdisk refuses to serve them beside it',
    remedy: 'stop it for good if no tapdisk is in use, or serve another kind with --backend',
  };
}

function qemuVerdict({ qemuPids }: HostFacts): Verdict {
  const found = qemuPids.length === 0 ? 'not running' : `${qemuPids.length} running`;
  return { check: 'QEMU', status: 'ok', found: `${found}; qdisk disks are its own` };
}

function lvmVerdict({ lvmIsRestricted }: HostFacts): Verdict | undefined {
  const check = 'LVM';
  if (lvmIsRestricted === undefined) return undefined;
  if (lvmIsRestricted) return { check, status: 'ok', found: "leaves guests' volumes alone" };
  return {
    check,
    status: 'warn',
    found: 'activates whatever it finds',
    breaks: 'a volume group that a guest made on its disk keeps the disk busy: it is then refused',
    remedy: 'set global_filter or auto_activation_volume_list in /etc/lvm/lvm.conf',
  };
}

function driverDomainVerdict({ driverDomain }: HostFacts): Verdict | undefined {
  if (!driverDomain) return undefined;
  const { domid, disks } = driverDomain;
  const check = 'driver domain';
  const found = `domain ${domid}, ${disks} disks`;
  if (disks < DRIVER_DOMAIN_DISKS - 4) return { check, status: 'ok', found };
  return {
    check,
    status: 'warn',
    found,
    breaks: `xenstored's default quota of nodes (1000) is enough for about ${DRIVER_DOMAIN_DISKS}`,
    remedy: 'in dom0: xenstore-control quota set nodes 10000',
  };
}
