// SPDX-License-Identifier: Apache-2.0
// Shell text for guests: what they do with their disks. Amounts are fixed and small, since every
// instruction of guest, Xen and dom0 is emulated (2000 to 4000 I/Os a second).

/**
 * Every pattern of the data path. Sub-page requests are neither page sized nor page aligned in
 * memory: 512-byte aligned buffers make their segments begin inside pages and cross them.
 */
const PATTERNS = {
  'random mix': `rw=randrw
rwmixread=40
bs=4k
iodepth=32
numjobs=4
size=2M
offset_increment=2M
verify_backlog=128`,
  'many jobs': `rw=randwrite
bs=4k
iodepth=8
numjobs=8
size=1M
offset=16M
offset_increment=1M`,
  sequential: `rw=write
bs=1M
iodepth=4
size=32M
offset=32M`,
  'sub-page': `rw=randwrite
bssplit=512/20:1k/20:1536/15:3k/15:3584/15:7680/10:65024/5
blockalign=512
verify_interval=512
iomem_align=512
iodepth=16
size=2M
offset=64M`,
};

/**
 * Writes by one pattern and verifies what is read back.
 * @param {string} vdev
 * @param {keyof typeof PATTERNS} pattern
 * @returns {string}
 */
function verified(vdev, pattern) {
  return `wait_for_disk ${vdev}
cat > /tmp/${vdev}.fio <<'END'
[${pattern}]
filename=/dev/${vdev}
ioengine=libaio
direct=1
verify=crc32c
verify_fatal=1
group_reporting
${PATTERNS[pattern]}
END
fio --output=/tmp/${vdev}.out /tmp/${vdev}.fio || { tail -n 40 /tmp/${vdev}.out; exit 1; }
grep -E 'IOPS' /tmp/${vdev}.out
`;
}

/** @param {string} vdev @returns {string} 4 KiB random reads and writes, verified meanwhile */
export function randomMix(vdev) {
  return verified(vdev, 'random mix');
}

/**
 * Runs every pattern, one after the other.
 * @param {import('./guest.mjs').Guest} guest
 * @param {string} vdev
 */
export async function everyPattern(guest, vdev) {
  for (const pattern of /** @type {(keyof typeof PATTERNS)[]} */ (Object.keys(PATTERNS))) {
    await guest.run(verified(vdev, pattern)).catch((error) => {
      throw new Error(`${pattern} on ${vdev}: ${error.message}`);
    });
  }
}

/**
 * Verified load, until stopLoad is run in the guest or the disk is taken away.
 * @param {string} vdev
 * @returns {string}
 */
export function load(vdev) {
  return `wait_for_disk ${vdev}
rm -f /tmp/stop-${vdev}
until [ -e /tmp/stop-${vdev} ]; do
  fio --name=load --filename=/dev/${vdev} --ioengine=libaio --direct=1 --rw=randrw --bs=4k \\
    --iodepth=32 --numjobs=4 --size=1M --offset=256M --offset_increment=1M --group_reporting \\
    --verify=crc32c --verify_backlog=64 --output=/tmp/load.out || { tail /tmp/load.out; exit 1; }
done
`;
}

/** @param {string} vdev @returns {string} */
export function stopLoad(vdev) {
  return `touch /tmp/stop-${vdev}`;
}

/** The data that the file system tests write, bytes. */
export const FILES_BYTES = 40 << 20;

/** @param {string} vdev @param {'ext4' | 'xfs'} kind @returns {string} */
export function makeFileSystem(vdev, kind) {
  // Nothing lazy: what the kernel initialises later would look like space that was not given back.
  const eager = '-E lazy_itable_init=0,lazy_journal_init=0';
  const make = kind === 'ext4' ? `mke2fs -q -t ext4 -F ${eager}` : 'mkfs.xfs -q -f';
  return `wait_for_disk ${vdev}
umount /mnt/${vdev} 2>/dev/null || true
${make} /dev/${vdev}
mkdir -p /mnt/${vdev}
mount -t ${kind} -o discard /dev/${vdev} /mnt/${vdev}
sync
`;
}

/**
 * @param {string} vdev @returns {string} writes FILES_BYTES in files of several sizes and takes
 * sums
 */
export function writeFiles(vdev) {
  return `cd /mnt/${vdev}
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=small.$i bs=64k count=16 2>/dev/null; done
dd if=/dev/urandom of=large bs=1M count=32 2>/dev/null
sha256sum small.* large > /tmp/${vdev}.sums
cd /
sync
`;
}

/** @param {string} vdev @param {'ext4' | 'xfs'} kind @returns {string} */
export function remountAndCompare(vdev, kind) {
  const check = kind === 'ext4' ? `e2fsck -f -n /dev/${vdev} > /dev/null` : '';
  return `umount /mnt/${vdev}
${check}
mount -t ${kind} -o discard /dev/${vdev} /mnt/${vdev}
cd /mnt/${vdev}
sha256sum -c /tmp/${vdev}.sums
`;
}

/** @param {string} vdev @returns {string} */
export function removeAndTrim(vdev) {
  return `rm /mnt/${vdev}/small.* /mnt/${vdev}/large
sync
fstrim -v /mnt/${vdev}
sync
`;
}
