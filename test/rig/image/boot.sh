#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots real Xen with a Debian dom0 under QEMU's software emulation and runs SHARE/dom0_job there.
# usage: boot.sh IMAGE SHARE [SECONDS]
#   IMAGE    the folder that build.sh printed
#   SHARE    a folder that dom0 mounts read-write at /host; its dom0_job (bash) is what dom0 runs.
#            Its program `hostile` is put into the guests, its `node` into dom0.
#            SHARE/nvme{0,1,2,3}.img are dom0's NVMe disks (serials rig0 to rig3); 2 has 4 KiB
#            logical blocks, 3 has errors: see below.
#   SECONDS  the time limit (default 900)
# exit status: dom0_job's own; 124 on the time limit; 125 when dom0 went down before its end.
# The console is in SHARE/logs/console.log.
# RIG_ICOUNT=1: one CPU, whose clock counts instructions: what is timed then repeats to about 1 %,
# however busy the host is (bench/README.md).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=$(cd "$1" && pwd)
share=$(cd "$2" && pwd)
limit=${3:-900}

# Two rigs on one machine would each take several times as long.
exec 9> "$image/lock"
flock --nonblock 9 || { echo "rig: waiting for another rig to end" >&2; flock 9; }

mkdir -p "$share/logs"
rm -f "$share/status"
cp "$here/dom0_init" "$share/dom0_init"
init=$(mktemp -d)
trap 'rm -rf "$init"' EXIT
install -m 755 "$here/guest_init" "$init/init"
mkdir "$init/bin"
install -m 755 "$share/hostile" "$init/bin/hostile"
# dom0_init puts it before the rest of the guests' initramfs.
(cd "$init" && find . | cpio --quiet -o -H newc) > "$share/guest_init.img"
for disk in 0 1 2; do
  [ -f "$share/nvme$disk.img" ] || truncate -s 1G "$share/nvme$disk.img"
done

cpus=2
cpu=max,-smap,-smep,-la57
clock=(-accel tcg,thread=multi)
pin=()
if [ -n "${RIG_ICOUNT:-}" ]; then
  cpus=1
  # Every round of a string instruction counts as one: without these two kernels and Xen copy by
  # eight bytes a round, which is nearer to what a copy costs in a real CPU than one byte is.
  cpu+=,-erms,-fsrm
  clock=(-accel tcg,thread=single -icount shift=0,sleep=on)
  # With one emulated CPU this QEMU (7.2) leaves memory barriers out, while its devices run on a
  # thread of their own: the NVMe driver's doorbells got lost, and I/O stood still until its
  # time-out of 30 s. On one CPU of the host the two threads see each other's stores in order.
  pin=(taskset --cpu-list "$(taskset --cpu-list --pid $$ | sed 's/.*[ ,-]//')")
fi

# Without spec-ctrl=eager-fpu this emulation loses SSE and AVX registers when domains share a CPU,
# and memcpy's data with them.
xen_arguments="console=com1 com1=115200,8n1 dom0_mem=2G,max:2G dom0_max_vcpus=$cpus"
xen_arguments+=" spec-ctrl=eager-fpu loglvl=all guest_loglvl=all"
dom0_arguments="root=/dev/vda rw console=hvc0 init=/sbin/rig-stub mitigations=off nokaslr"
dom0_arguments+=" net.ifnames=0 quiet"

# Xen's entry code for PV guests faults under QEMU's emulation of SMAP, SMEP and LA57.
machine=(-M q35 "${clock[@]}" -cpu "$cpu" -smp "$cpus" -m 5G)
machine+=(-nographic -no-reboot -nic none)
boot=(-kernel "$image/xen" -append "$xen_arguments")
boot+=(-initrd "$image/vmlinuz $dom0_arguments,$image/initrd")
disks=(
  -drive "file=$image/dom0.ext4,format=raw,if=none,id=root,snapshot=on,cache=unsafe"
  -device virtio-blk-pci,drive=root
  # The same system once more, /dev/vdb: a driver domain's. What is written to it is forgotten, too.
  -drive "file=$image/dom0.ext4,format=raw,if=none,id=second,snapshot=on,cache=unsafe"
  -device virtio-blk-pci,drive=second
)
for disk in 0 1 2; do
  blocks=
  [ "$disk" = 2 ] && blocks=,logical_block_size=4096,physical_block_size=4096
  drive="file=$share/nvme$disk.img,format=raw,if=none,id=nvme$disk,cache=unsafe,discard=unmap"
  disks+=(-drive "$drive")
  disks+=(-device "nvme,drive=nvme$disk,serial=rig$disk$blocks")
done
# 64 MiB: sector 40000 can't be read, and the first write to each of four others fails.
truncate -s 64M "$share/nvme3.img"
error='{"event":"none","iotype":"%s","sector":%s,"errno":5,"once":%s}'
# shellcheck disable=SC2059 # The format is above.
errors=$(printf "$error" read 40000 false; printf ",$error" \
  write 50000 true write 50008 true write 50016 true write 50024 true)
faulty='{"driver":"blkdebug","node-name":"nvme3-errors","image":"nvme3-file","inject-error":['
disks+=(
  -blockdev "driver=file,filename=$share/nvme3.img,node-name=nvme3-file"
  -blockdev "$faulty$errors]}"
  -blockdev driver=raw,file=nvme3-errors,node-name=nvme3
  -device nvme,drive=nvme3,serial=rig3
)
folder=(-virtfs "local,path=$share,mount_tag=host,security_model=none,id=host")

timeout --foreground -k 5 "$limit" "${pin[@]}" qemu-system-x86_64 \
  "${machine[@]}" "${boot[@]}" "${disks[@]}" "${folder[@]}" \
  < /dev/null > "$share/logs/console.log" 2>&1 9>&- &
emulator=$!
trap 'kill "$emulator" 2> /dev/null || true; rm -rf "$init"' EXIT
# dom0 powers off when its job has ended; on a single CPU that has been seen to hang.
until [ -f "$share/status" ] || ! kill -0 "$emulator" 2> /dev/null; do sleep 0.5; done
for _ in $(seq 20); do
  kill -0 "$emulator" 2> /dev/null || break
  sleep 0.5
done
kill "$emulator" 2> /dev/null || true
code=0
wait "$emulator" || code=$?
if [ "$code" = 124 ] || [ "$code" = 137 ]; then
  echo "rig: no end within $limit s; see $share/logs/console.log" >&2
  exit 124
fi
if [ ! -f "$share/status" ]; then
  echo "rig: dom0 went down before its job ended; see $share/logs/console.log" >&2
  exit 125
fi
exit "$(cat "$share/status")"
