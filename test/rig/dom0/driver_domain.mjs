// SPDX-License-Identifier: Apache-2.0
// A driver domain: a PV guest that is not privileged, has a disk of its own and serves others from
// it. Its system is a copy of dom0's (/dev/vdb, see image/boot.sh), with xl's daemon for driver
// domains and ringdisk in it. Its own disks come from dom0's xen-blkback.
import { mkdir, writeFile } from 'node:fs/promises';
import { PROJECT } from './daemon.mjs';
import { Guest } from './guest.mjs';
import { bash, run } from './shell.mjs';

const SYSTEM = { spec: '/dev/vdb', measured: '/dev/null' };
const MAIN = '/opt/ringdisk/dist/ringdisk.cjs';
const START_MS = 180_000;
const COPY_MS = 120_000;
export const BACKEND = 'backend';

/** What xen-blkback wants to be told; Xen's own script starts fifty programs more. */
const PLAIN_SCRIPT = `#!/bin/sh
[ "$1" = add ] || exit 0
device=$(stat -L -c %t:%T "$(xenstore-read "$XENBUS_PATH/params")")
xenstore-write "$XENBUS_PATH/physical-device" "$device" "$XENBUS_PATH/hotplug-status" connected
`;
const PLAIN = '/run/rig/block-plain';

/** What happens once: ringdisk and the Node that runs dom0's go into its system. */
const INSTALL = `mkdir -p /run/rig/system
mount /dev/vdb /run/rig/system
inside=/run/rig/system/opt/ringdisk
mkdir -p $inside/dist $inside/node_modules
cp ${PROJECT}/dist/*.cjs ${PROJECT}/dist/*.cache $inside/dist/
cp -r ${PROJECT}/build ${PROJECT}/package.json $inside/
cp -r ${PROJECT}/node_modules/node-gyp-build $inside/node_modules/
cp $(command -v node) /run/rig/system/usr/local/bin/node
install -m 755 ${PROJECT}/src/host/block-ringdisk /run/rig/system/etc/xen/scripts/block-tap
umount /run/rig/system`;

const BOOT = `wait_for_disk xvda
load_file_systems
mkdir -p /mnt/system
mount -t ext4 /dev/xvda /mnt/system
for folder in proc sys dev; do mount --bind /$folder /mnt/system/$folder; done
mount -t tmpfs run /mnt/system/run
mkdir -p /mnt/system/run/xen /mnt/system/run/lock
mount -t xenfs xenfs /mnt/system/proc/xen 2>/dev/null || true
ln -s /proc/self/fd /dev/fd
cat > /bin/inside <<'END'
#!/bin/sh
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/xen-4.20/bin HOME=/root \\
  chroot /mnt/system /bin/bash -ec "$1"
END
chmod 755 /bin/inside
inside 'for module in xen-gntdev xen-gntalloc xen-evtchn xen-privcmd; do modprobe $module; done
mkdir -p /var/log/xen; setsid xl devd -F > /run/devd.log 2>&1 < /dev/null &'
`;

/** The daemon as a service manager starts it; dom0 finds its log in the guest's. */
const SERVE = `cat > /mnt/system/run/serve <<'END'
rm -f /run/daemon.log
setsid prlimit --memlock=unlimited setpriv --no-new-privs --bounding-set=-all \
  node ${MAIN} serve > >(tee /run/daemon.log > /dev/console 2>&1) 2>&1 < /dev/null &
echo $! > /run/daemon.pid
END
inside 'bash /run/serve'
tries=0
until grep -q '"msg":"serving"' /mnt/system/run/daemon.log; do
  tries=$((tries + 1)); [ $tries -lt 600 ] || { echo "ringdisk does not answer"; exit 1; }
  sleep 0.2
done 2> /dev/null
`;

export class DriverDomain {
  /** How one runs ringdisk's commands inside. */
  command = `node ${MAIN}`;

  /** @param {Guest} guest */
  constructor(guest) {
    this.guest = guest;
  }

  /**
   * @param {Record<string, import('./targets.mjs').Target>} disks its own, by vdev from xvdb on
   * @returns {Promise<DriverDomain>} that serves
   */
  static async create(disks) {
    await mkdir('/run/rig/system', { recursive: true });
    await bash(INSTALL, { timeoutMs: COPY_MS });
    await run('modprobe', ['xen-blkback']);
    await writeFile(PLAIN, PLAIN_SCRIPT, { mode: 0o755 });
    const all = Object.entries({ xvda: SYSTEM, ...disks }).map(([vdev, target]) => [
      vdev,
      { target, backend: /** @type {const} */ ('phy'), script: PLAIN },
    ]);
    const guest = await Guest.create(BACKEND, {
      disks: Object.fromEntries(all),
      memoryMib: 512,
      more: ['driver_domain = 1'],
    });
    await guest.run(BOOT, { timeoutMs: START_MS });
    const domain = new DriverDomain(guest);
    await domain.start();
    return domain;
  }

  /**
   * @param {string} script shell text for the system inside; no single quotes
   * @param {{ timeoutMs?: number }} [options]
   */
  inside(script, options) {
    return this.guest.run(`inside '${script}'`, options);
  }

  async start() {
    await this.guest.run(SERVE, { timeoutMs: START_MS });
  }

  /** SIGKILL; returns when the process is gone. */
  async kill() {
    await this.inside('pid=$(cat /run/daemon.pid); kill -9 $pid; tail --pid=$pid -f /dev/null');
  }
}
