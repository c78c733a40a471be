// SPDX-License-Identifier: Apache-2.0
// Shell text for guests: what they do with their disks. Amounts are fixed and small, since every
// instruction of guest, Xen and dom0 is emulated (2000 to 4000 I/Os a second).

/**
 * Runs one fio job file; its report is printed only when it fails.
 * @param {string} jobs
 * @returns {string}
 */
function fio(jobs) {
  return `
cat > /tmp/$$.fio <<'END'
${jobs}
END
fio --output=/tmp/$$.out /tmp/$$.fio || { tail -n 40 /tmp/$$.out; exit 1; }
grep -E 'IOPS' /tmp/$$.out
`;
}

/** @param {string} vdev @param {string[]} more */
function verifyGlobals(vdev, ...more) {
  return [
    '[global]',
    `filename=/dev/${vdev}`,
    'ioengine=libaio',
    'direct=1',
    'verify=crc32c',
    'verify_fatal=1',
    'group_reporting',
    'stonewall',
    ...more,
  ].join('\n');
}

/** @param {string} vdev @returns {string} random 4 KiB reads and writes, with reads verified meanwhile */
export function randomMix(vdev) {
  return `wait_for_disk ${vdev}
${fio(`${verifyGlobals(vdev)}
[random-mix]
rw=randrw
rwmixread=40
bs=4k
iodepth=32
numjobs=4
size=2M
offset_increment=2M
verify_backlog=128`)}`;
}

/**
 * Every pattern of the data path: mixed, many jobs, large sequential, and requests that are neither
 * page sized nor page aligned in memory (512-byte aligned buffers make segments cross pages).
 * @param {string} vdev
 * @returns {string}
 */
export function everyPattern(vdev) {
  return `${randomMix(vdev)}
${fio(`${verifyGlobals(vdev)}
[many-jobs]
rw=randwrite
bs=4k
iodepth=8
numjobs=8
size=1M
offset=16M
offset_increment=1M
[sequential]
rw=write
bs=1M
iodepth=4
size=32M
offset=32M
[sub-page]
rw=randwrite
bssplit=512/20:1k/20:1536/15:3k/15:3584/15:7680/10:65024/5
blockalign=512
verify_interval=512
iomem_align=512
iodepth=16
size=2M
offset=64M`)}`;
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
  const make = kind === 'ext4' ? 'mke2fs -q -t ext4 -F' : 'mkfs.xfs -q -f';
  return `wait_for_disk ${vdev}
umount /mnt/${vdev} 2>/dev/null || true
${make} /dev/${vdev}
mkdir -p /mnt/${vdev}
mount -t ${kind} -o discard /dev/${vdev} /mnt/${vdev}
sync
`;
}

/** @param {string} vdev @returns {string} writes FILES_BYTES in files of several sizes and takes sums */
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
