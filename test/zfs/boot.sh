#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots the rig's dom0 by its own kernel, without Xen, under QEMU's software emulation, and runs
# SHARE/dom0_job there: for what needs ZFS and no guests.
# usage: boot.sh IMAGE SHARE [SECONDS]      as of test/rig/image/boot.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=$(cd "$1" && pwd)
share=$(cd "$2" && pwd)
limit=${3:-480}

mkdir -p "$share/logs"
rm -f "$share/status"
cp "$here/machine_init" "$share/dom0_init"
arguments="root=/dev/vda rw console=ttyS0 init=/sbin/rig-stub mitigations=off nokaslr"
arguments+=" net.ifnames=0 quiet"
machine=(-M q35 -accel tcg,thread=multi -cpu max,-la57 -smp 1 -m 2G)
machine+=(-nographic -no-reboot -nic none)
boot=(-kernel "$image/vmlinuz" -initrd "$image/initrd" -append "$arguments")
disks=(
  -drive "file=$image/dom0.ext4,format=raw,if=none,id=root,snapshot=on,cache=unsafe"
  -device virtio-blk-pci,drive=root
)
# Eight disks of 4 GiB for pools, /dev/disk/by-id/virtio-diskN; the last has sectors of 8 KiB.
for disk in 0 1 2 3 4 5 6 7; do
  truncate -s 4G "$share/disk$disk.img"
  sectors=
  [ "$disk" = 7 ] && sectors=,physical_block_size=8192
  drive="file=$share/disk$disk.img,format=raw,if=none,id=disk$disk,cache=unsafe,discard=unmap"
  disks+=(-drive "$drive")
  disks+=(-device "virtio-blk-pci,drive=disk$disk,serial=disk$disk$sectors")
done
folder=(-virtfs "local,path=$share,mount_tag=host,security_model=none,id=host")

timeout --foreground -k 5 "$limit" nice -n 10 qemu-system-x86_64 \
  "${machine[@]}" "${boot[@]}" "${disks[@]}" "${folder[@]}" \
  < /dev/null > "$share/logs/console.log" 2>&1 &
emulator=$!
trap 'kill "$emulator" 2> /dev/null || true' EXIT
code=0
wait "$emulator" || code=$?
trap - EXIT
if [ "$code" = 124 ] || [ "$code" = 137 ]; then
  echo "zfs: no end within $limit s; see $share/logs/console.log" >&2
  exit 124
fi
if [ ! -f "$share/status" ]; then
  echo "zfs: the machine went down before its job ended; see $share/logs/console.log" >&2
  exit 125
fi
exit "$(cat "$share/status")"
