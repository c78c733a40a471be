// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` looks at on a Xen host, beyond the machine itself: Xen's version and what
// stands between a toolstack and the daemon. Judged in xen_verdicts.ts.
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../package_root.ts';
import { pidsOf } from './other_backends.ts';

/** A file of ours on this host: as shipped, of another version, somebody else's, not usable. */
export type Installed = 'same' | 'other version' | 'foreign' | 'not executable' | 'missing';

export interface XenFacts {
  /** "4.20"; undefined where this is no Xen domain. */
  xenVersion?: string;
  /** libxl's hotplug scripts, by name. */
  scripts: Record<ScriptName, Installed>;
  /** The systemd unit; undefined where systemd does not run. */
  unit?: Installed;
  qemuPids: number[];
  /** Where the runtime directory lies, or is going to. */
  runtimeSpace: { isTmpfs: boolean; freeBytes: number };
  /** Where LVM is installed: whether it leaves alone what it finds on guests' disks. */
  lvmIsRestricted?: boolean;
  /** Set in a driver domain: how many disks a toolstack has given it. */
  driverDomain?: { domid: number; disks: number };
}

const SCRIPTS = ['block-tap', 'block-ringdisk'] as const;
type ScriptName = (typeof SCRIPTS)[number];

const SCRIPT_FOLDER = '/etc/xen/scripts';
const UNIT_FOLDERS = ['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib'];
const LVM_CONFIG = '/etc/lvm/lvm.conf';
const TMPFS_MAGIC = 0x0102_1994;

export function readXenFacts(runtimeDir: string): Omit<XenFacts, 'driverDomain'> {
  const xenVersion = readXenVersion();
  const unit = readUnit();
  const lvmConfig = readText(LVM_CONFIG);
  return {
    ...(xenVersion !== undefined && { xenVersion }),
    scripts: Object.fromEntries(
      SCRIPTS.map((name) => [name, compare(path.join(SCRIPT_FOLDER, name), 'block-ringdisk')]),
    ) as XenFacts['scripts'],
    ...(unit !== undefined && { unit }),
    qemuPids: [...pidsOf('qemu-system-i38'), ...pidsOf('qemu-system-x86')],
    runtimeSpace: spaceOf(runtimeDir),
    ...(lvmConfig !== undefined && { lvmIsRestricted: isRestricted(lvmConfig) }),
  };
}

function readXenVersion(): string | undefined {
  const [major, minor] = ['major', 'minor'].map((part) =>
    readText(`/sys/hypervisor/version/${part}`)?.trim(),
  );
  return major === undefined || minor === undefined ? undefined : `${major}.${minor}`;
}

function readUnit(): Installed | undefined {
  if (!existsSync('/run/systemd/system')) return undefined;
  const files = UNIT_FOLDERS.map((folder) => `${folder}/systemd/system/ringdisk.service`);
  return compare(files.find((file) => existsSync(file)) ?? '', 'ringdisk.service', false);
}

/** `file` of this host with what is shipped under that name. */
function compare(file: string, shipped: string, isProgram = true): Installed {
  const text = readText(file);
  if (text === undefined) return 'missing';
  if (!text.includes('ringdisk')) return 'foreign';
  if (isProgram && !isExecutable(file)) return 'not executable';
  return text === readText(path.join(packageRoot, 'src/host', shipped)) ? 'same' : 'other version';
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Of the folder, or of the nearest one above it that exists. */
function spaceOf(folder: string): XenFacts['runtimeSpace'] {
  let existing = path.resolve(folder);
  while (!existsSync(existing)) existing = path.dirname(existing);
  const { type, bavail, bsize } = statfsSync(existing);
  return { isTmpfs: type === TMPFS_MAGIC, freeBytes: bavail * bsize };
}

/** By any of its ways: a list of volume groups, a filter, a list of devices, or not at all. */
export function isRestricted(lvmConfig: string): boolean {
  return (
    /^\s*(auto_activation_volume_list|global_filter|filter)\b/m.test(lvmConfig) ||
    /^\s*(use_devicesfile\s*=\s*1|event_activation\s*=\s*0)/m.test(lvmConfig)
  );
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
