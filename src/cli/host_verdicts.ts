// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` makes of a host: pure, one small function per matter.
import type { PlatformKind, UringFeatures } from '../datapath/binding.ts';
import { type HostFacts, XEN_DEVICES, type XenDevice } from './host_facts.ts';
import { describeCapabilities } from './privileges.ts';
import { formatBytes } from './units.ts';
import { judgeXapi } from './xapi_facts.ts';
import { judgeXen } from './xen_verdicts.ts';

export type Status = 'ok' | 'warn' | 'fail';

export interface Verdict {
  check: string;
  status: Status;
  found: string;
  /** What does not work like this; absent when ok. */
  breaks?: string;
  /** What to do about it; absent when ok. */
  remedy?: string;
}

const MEMLOCK_BYTES_MIN = 256 * 1024 * 1024;
const NOFILE_MIN = 4096;
/** Xen lets a backend map 262,144 grants, and each may be a memory map of its own. */
const MAP_COUNT_MIN = 262_144;

/** All verdicts that matter for `platform`. */
export function judgeHost(facts: HostFacts, platform: PlatformKind): Verdict[] {
  const anywhere = [
    kernelVerdict(facts),
    addonVerdict(facts),
    ...workerVerdicts(facts),
    ...uringVerdicts(facts),
    memlockVerdict(facts),
    nofileVerdict(facts),
    runtimeDirVerdict(facts),
    privilegesVerdict(facts),
    daemonVerdict(facts),
  ];
  return platform === 'xen' ? [...anywhere, ...xenVerdicts(facts)] : anywhere;
}

function ok(check: string, found: string): Verdict {
  return { check, status: 'ok', found };
}

function kernelVerdict({ kernel }: HostFacts): Verdict {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  if (major > 6 || (major === 6 && minor >= 2)) return ok('kernel', kernel);
  return {
    check: 'kernel',
    status: 'warn',
    found: kernel,
    breaks:
      'older than Linux 6.2: nvme: targets do not open, since NVMe passthrough takes a ' +
      'privilege there that the daemon gives up; before 6.1 requests cost more',
    remedy: 'run a newer kernel in this domain',
  };
}

function addonVerdict({ addonError }: HostFacts): Verdict {
  if (addonError === undefined) return ok('addon', 'ringdisk.node loads');
  return {
    check: 'addon',
    status: 'fail',
    found: addonError,
    breaks: 'no disk can be served',
    remedy: 'build it: npm run build in the source tree, or npm rebuild ringdisk',
  };
}

function workerVerdicts({ addonError, workerError }: HostFacts): Verdict[] {
  const check = 'worker';
  if (addonError !== undefined) return [];
  if (workerError === undefined) return [ok(check, 'ringdisk-worker starts')];
  return [
    {
      check,
      status: 'fail',
      found: workerError,
      breaks: 'no disk can be opened: a process of this program does it',
      remedy: 'build it: npm run build in the source tree, or npm rebuild ringdisk',
    },
  ];
}

function uringVerdicts(facts: HostFacts): Verdict[] {
  const { uring, uringDisabled } = facts;
  if (!uring) return [];
  if (uring.available) return [ok('io_uring', 'available'), ...featureVerdicts(uring)];
  const disabled = uringDisabled !== undefined && uringDisabled > 0;
  return [
    {
      check: 'io_uring',
      status: 'fail',
      found: disabled ? `kernel.io_uring_disabled = ${uringDisabled}` : (uring.error ?? 'missing'),
      breaks: 'no disk can be served',
      remedy: disabled
        ? 'sysctl kernel.io_uring_disabled=0'
        : 'run a kernel with CONFIG_IO_URING, and let containers and seccomp allow it',
    },
  ];
}

const FEATURES: { key: keyof UringFeatures; name: string; since: string; breaks: string }[] = [
  { key: 'singleIssuer', name: 'single issuer', since: '6.0', breaks: 'more CPU per request' },
  { key: 'deferTaskrun', name: 'deferred task work', since: '6.1', breaks: 'more CPU per request' },
  {
    key: 'coopTaskrun',
    name: 'cooperative task work',
    since: '5.19',
    breaks: 'more CPU per request',
  },
  { key: 'bigEntries', name: 'big entries', since: '5.19', breaks: 'nvme: targets do not open' },
  { key: 'uringCommand', name: 'commands', since: '5.19', breaks: 'nvme: targets do not open' },
];

function featureVerdicts(uring: UringFeatures): Verdict[] {
  return FEATURES.map(({ key, name, since, breaks }) => {
    const check = `io_uring ${name}`;
    if (uring[key]) return ok(check, 'yes');
    return { check, status: 'warn', found: 'no', breaks, remedy: `Linux ${since} or newer has it` };
  });
}

function memlockVerdict({ memlockBytes }: HostFacts): Verdict {
  const check = 'memory lock limit';
  const found = Number.isFinite(memlockBytes) ? formatBytes(memlockBytes) : 'unlimited';
  if (memlockBytes >= MEMLOCK_BYTES_MIN) return ok(check, found);
  return {
    check,
    status: 'warn',
    found,
    breaks: 'bounce memory cannot be registered with io_uring: each I/O costs more CPU',
    remedy: 'set LimitMEMLOCK=infinity in the unit, or run as a root that may lift the limit',
  };
}

function nofileVerdict({ nofile }: HostFacts): Verdict {
  const check = 'open files limit';
  if (nofile >= NOFILE_MIN) return ok(check, String(nofile));
  return {
    check,
    status: 'warn',
    found: String(nofile),
    breaks: `each disk takes a few: about ${Math.floor(nofile / 8)} disks fit`,
    remedy: 'set LimitNOFILE=65536 in the unit, or ulimit -n 65536',
  };
}

function runtimeDirVerdict({ runtimeDirError }: HostFacts): Verdict {
  if (runtimeDirError === undefined) return ok('runtime directory', 'writable');
  return {
    check: 'runtime directory',
    status: 'fail',
    found: runtimeDirError,
    breaks: 'the daemon cannot start',
    remedy: 'run as root, or choose another with --runtime-dir',
  };
}

function privilegesVerdict({ privileges }: HostFacts): Verdict {
  const check = 'privileges';
  const found = `capabilities: ${describeCapabilities(privileges)}`;
  if (found.endsWith(': none') && privileges.noNewPrivileges) return ok(check, found);
  return {
    check,
    status: 'warn',
    found,
    breaks: 'the daemon has fewer rights than this check: it may find more to be wrong',
    remedy: 'see to the addon first, then run the check again',
  };
}

function daemonVerdict({ daemonVersion, daemonLost }: HostFacts): Verdict {
  if (daemonLost) {
    return {
      check: 'daemon',
      status: 'fail',
      found: `has no xenstored since ${daemonLost.since}: ${daemonLost.reason}`,
      breaks: 'no disk can be attached, detached or reconnected; those in use go on',
      remedy: 'start xenstored again; the daemon finds it by itself',
    };
  }
  if (daemonVersion !== undefined) return ok('daemon', `running, version ${daemonVersion}`);
  return {
    check: 'daemon',
    status: 'warn',
    found: 'not running',
    breaks: 'no disk is served now',
    remedy: 'systemctl start ringdisk, or ringdisk serve',
  };
}

function xenVerdicts(facts: HostFacts): Verdict[] {
  return [
    ...XEN_DEVICES.map((device) => deviceVerdict(device, facts)),
    xenstoreVerdict(facts),
    mapCountVerdict(facts),
    ...judgeXen(facts),
    ...(facts.xapi ? judgeXapi(facts.xapi, facts.daemonBackends, facts.daemonVersion) : []),
  ];
}

const DEVICE_USE: Record<XenDevice, { status: Status; breaks: string; module: string }> = {
  gntdev: { status: 'fail', breaks: "no guest's memory can be reached", module: 'xen-gntdev' },
  evtchn: { status: 'fail', breaks: 'no guest can be notified', module: 'xen-evtchn' },
  xenbus: {
    status: 'warn',
    breaks: 'xenstore is reachable over its socket only, which a driver domain has not',
    module: 'xenfs',
  },
  privcmd: {
    status: 'warn',
    breaks: 'ringdisk does not need it, but xl does not work without it',
    module: 'xen-privcmd',
  },
};

function deviceVerdict(device: XenDevice, { devices }: HostFacts): Verdict {
  const check = `/dev/xen/${device}`;
  const error = devices[device];
  if (error === undefined) return ok(check, 'usable');
  const { status, breaks, module } = DEVICE_USE[device];
  const remedy =
    error === 'ENOENT' ? `modprobe ${module}, in dom0 or a driver domain` : 'run as root';
  return { check, status, found: error, breaks, remedy };
}

function xenstoreVerdict({ xenstoreError }: HostFacts): Verdict {
  if (xenstoreError === undefined) return ok('xenstore', 'reachable');
  return {
    check: 'xenstore',
    status: 'fail',
    found: xenstoreError,
    breaks: 'no disk can be found or negotiated',
    remedy: 'start xenstored (in dom0: systemctl start xencommons), and run as root',
  };
}

function mapCountVerdict({ maxMapCount }: HostFacts): Verdict {
  const check = 'vm.max_map_count';
  if (maxMapCount >= MAP_COUNT_MIN) return ok(check, String(maxMapCount));
  return {
    check,
    status: 'warn',
    found: String(maxMapCount),
    breaks: 'many busy disks with persistent grants run out of memory maps',
    remedy:
      'install -D -m 644 src/host/ringdisk.sysctl.conf /etc/sysctl.d/60-ringdisk.conf && ' +
      'systemctl restart systemd-sysctl',
  };
}
