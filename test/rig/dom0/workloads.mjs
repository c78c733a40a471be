// SPDX-License-Identifier: Apache-2.0
// Shell text for guests: what they do with their disks. Amounts are fixed and small, since every
// instruction of guest, Xen and dom0 is emulated (2000 to 4000 I/Os a second). fio's jobs are
// threads: a new process costs a PV guest many hypercalls.

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
size=1M
offset_increment=2M
verify_backlog=128`,
  'many jobs': `rw=randwrite
bs=4k
iodepth=8
numjobs=8
size=512k
offset=16M
offset_increment=1M`,
  sequential: `rw=write
bs=1M
iodepth=4
size=16M
offset=32M`,
  'sub-page': `rw=randwrite
bssplit=512/20:1k/20:1536/15:3k/15:3584/15:7680/10:65024/5
blockalign=512
verify_interval=512
iomem_align=512
iodepth=16
size=1M
offset=64M`,
};

/**
 * Writes by one pattern and verifies what is read back.
 * @param {string} vdev
 * @param {keyof typeof PATTERNS} pattern
 * @param {string} [from] where on the disk, for patterns that name no offset
 * @returns {string}
 */
function verified(vdev, pattern, from = '0') {
  return `wait_for_disk ${vdev}
cat > /tmp/${vdev}.fio <<'END'
[${pattern}]
filename=/dev/${vdev}
ioengine=libaio
direct=1
thread
verify=crc32c
verify_fatal=1
group_reporting
offset=${from}
${PATTERNS[pattern]}
END
fio --output=/tmp/${vdev}.out /tmp/${vdev}.fio || { tail -n 40 /tmp/${vdev}.out; exit 1; }
grep -E 'IOPS' /tmp/${vdev}.out
`;
}

/**
 * @param {string} vdev
 * @param {string} [from] of the 8 MiB that are used
 * @returns {string} 4 KiB random reads and writes, verified meanwhile
 */
export function randomMix(vdev, from) {
  return verified(vdev, 'random mix', from);
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
 * @param {string} [offset] of the 4 MiB that are used
 * @returns {string}
 */
export function load(vdev, offset = '256M') {
  return `wait_for_disk ${vdev}
rm -f /tmp/stop-${vdev}
until [ -e /tmp/stop-${vdev} ]; do
  fio --name=load --filename=/dev/${vdev} --ioengine=libaio --direct=1 --thread --rw=randrw \\
    --bs=4k --iodepth=32 --numjobs=4 --size=1M --offset=${offset} --offset_increment=1M \\
    --group_reporting --verify=crc32c --verify_backlog=64 --output=/tmp/load.out ||
    { tail /tmp/load.out; exit 1; }
done
`;
}

/** @param {string} vdev @returns {string} */
export function stopLoad(vdev) {
  return `touch /tmp/stop-${vdev}`;
}

/** @param {string} vdev of a disk that was detached @returns {string} waits until it is gone */
export function waitUntilGone(vdev) {
  return `tries=0
while [ -e /dev/${vdev} ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "/dev/${vdev} stays"; exit 1; }
  sleep 0.1
done`;
}

/** The data that the file system tests write, bytes. */
export const FILES_BYTES = 40 << 20;

/** @param {string} vdev @param {'ext4' | 'xfs'} kind @returns {string} */
export function makeFileSystem(vdev, kind) {
  // Nothing lazy: what the kernel initialises later would look like space that was not given back.
  const eager = '-E lazy_itable_init=0,lazy_journal_init=0';
  const make = kind === 'ext4' ? `/bin/mke2fs -q -t ext4 -F ${eager}` : 'mkfs.xfs -q -f';
  return `wait_for_disk ${vdev}
load_file_systems
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
/bin/fstrim -v /mnt/${vdev}
sync
`;
}

/**
 * What a file system's journal and a database do to a disk: writes with flushes in between, trims,
 * some of what is written again at once, requests of many segments; verified, until stopLoad.
 * @param {string} vdev
 * @returns {string}
 */
export function mixedLoad(vdev) {
  return `wait_for_disk ${vdev}
rm -f /tmp/stop-${vdev}
cat > /tmp/mixed-${vdev}.fio <<'END'
[global]
filename=/dev/${vdev}
ioengine=libaio
direct=1
thread
verify=crc32c
verify_fatal=1
[random]
rw=randrw
bs=4k
iodepth=32
numjobs=2
size=1M
offset_increment=1M
verify_backlog=64
[flushed]
rw=randwrite
bs=4k
iodepth=8
size=512k
offset=8M
fsync=16
[trimmed]
rw=randtrim
bs=64k
iodepth=4
size=2M
offset=64M
verify=0
[large]
rw=write
bs=256k
iodepth=8
size=8M
offset=32M
END
head -c 1048576 /dev/urandom > /tmp/new-${vdev}
until [ -e /tmp/stop-${vdev} ]; do
  fio --output=/tmp/mixed-${vdev}.out /tmp/mixed-${vdev}.fio & fio=$!
  for i in 1 2 3 4; do
    /bin/blkdiscard -o 16M -l 1M /dev/${vdev}
    dd if=/tmp/new-${vdev} of=/dev/${vdev} bs=64k seek=256 oflag=direct 2>/dev/null
    dd if=/dev/${vdev} bs=64k skip=256 count=16 iflag=direct 2>/dev/null | cmp - /tmp/new-${vdev}
  done
  wait $fio || { tail -n 30 /tmp/mixed-${vdev}.out; exit 1; }
  echo "round of ${vdev} verified"
done
`;
}

/**
 * Files written, compared after their way through the disk and removed, until stopLoad.
 * @param {string} vdev with a file system that is mounted on /mnt/<vdev>
 * @returns {string}
 */
export function filesLoad(vdev) {
  return `cd /mnt/${vdev}
rm -f /tmp/stop-${vdev}
round=0
until [ -e /tmp/stop-${vdev} ]; do
  round=$((round + 1))
  for i in 1 2 3 4 5 6; do
    dd if=/dev/urandom of=file.$i bs=64k count=8 conv=fsync 2>/dev/null
  done
  sha256sum file.* > /tmp/${vdev}.round
  sync
  echo 3 > /proc/sys/vm/drop_caches
  sha256sum -c /tmp/${vdev}.round > /tmp/${vdev}.checked || { cat /tmp/${vdev}.checked; exit 1; }
  mkdir -p "kept.$((round % 4))"
  mv file.* "kept.$((round % 4))"
done
sha256sum kept.*/file.* > /tmp/${vdev}.sums
cd /
echo "rounds of files: $round"
`;
}
