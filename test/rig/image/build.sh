#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the rig's machine: the Xen hypervisor, a Debian dom0 and the initramfs of a Debian guest.
# usage: build.sh [--zfs]     (as root; prints the folder that boot.sh takes; --zfs: with ZFS)
#
# The result is cached in RINGDISK_RIG_DIR (default ~/.cache/ringdisk-rig) under a stamp of this
# file and of unpack.sh (and zfs.sh), so only a change there builds again. ZFS's modules are cached
# by themselves. The init scripts are not part of it: boot.sh adds them.
# RIG_MIRROR names another Debian mirror than mmdebstrap's own choice.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
suite=trixie
xen=4.20
. "$here/unpack.sh"
kind=$suite
parts=("$here/build.sh" "$here/unpack.sh")
with_zfs=
if [ "${1:-}" = --zfs ]; then
  kind=with-zfs-$suite
  parts+=("$here/zfs.sh")
  with_zfs=yes
fi
out=$cache/$kind-$(stamp_of "${parts[@]}")
# In dom0's tree.
stand_ins=/rig/stand-ins

host_packages() {
  cat <<-PACKAGES
	mmdebstrap qemu-system-x86 seabios ipxe-qemu e2fsprogs cpio xz-utils lz4 zstd kmod gcc libc6-dev
	PACKAGES
}

dom0_packages() {
  local packages=(
    "xen-hypervisor-$xen-amd64" "xen-utils-$xen" xenstore-utils linux-image-amd64 initramfs-tools
    nodejs liburing2 fio e2fsprogs xfsprogs kmod util-linux udev iproute2 procps busybox-static gdb
    strace dmsetup qemu-system-xen seabios linux-perf libc6-dbg grub-xen-host
    grub-pc-bin libvirt-daemon-driver-xen libvirt-clients kexec-tools bindfs
    nbd-client qemu-utils libnbd-bin nbdkit open-iscsi drbd-utils
  )
  [ "$with_zfs" ] && packages+=(zfsutils-linux)
  (IFS=,; echo "${packages[*]}")
}

install_missing_host_packages() {
  local missing=() package
  for package in $(host_packages); do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "rig: installing ${missing[*]}" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The dom0 image starts with this stub only; the rest of its init is on the shared folder.
write_stub() {
  cat > "$1" <<-'STUB'
	#!/bin/sh
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	mount -t proc proc /proc
	modprobe 9pnet_virtio
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host
	exec bash /host/dom0_init
	STUB
  chmod 755 "$1"
}

build_dom0_tree() {
  local root=$1
  mkdir -p "$root"
  # shellcheck disable=SC2086 # RIG_MIRROR is absent or one word.
  mmdebstrap --quiet --variant=minbase --components=main,contrib --include="$(dom0_packages)" \
    "$suite" - ${RIG_MIRROR:-} | tar -xf - -C "$root" --exclude='./dev/*'
  mkdir -p "$root/host"
  write_stub "$root/sbin/rig-stub"
}

# usage: stand_in PROGRAM LIBRARY FOLDER: a library like it that aborts whoever calls it
stand_in() {
  local program=$1 library=$2 work name version
  work=$(mktemp -d) name=$(basename "$2")
  readelf -W --dyn-syms "$library" | awk '$7 ~ /^[0-9]+$/ { print $8 }' | sed 's/@.*//' |
    sort -u > "$work/has"
  # Lines of "SYMBOL VERSION", or of a symbol alone.
  readelf -W --dyn-syms "$program" | awk '$7 == "UND" { print $8 }' | tr @ ' ' | sort |
    join - "$work/has" > "$work/wanted"
  {
    echo '#include <stdlib.h>'
    awk '{ print "void " $1 "(void) { abort(); }" }' "$work/wanted"
  } > "$work/source.c"
  for version in $(awk '{ print $2 }' "$work/wanted" | sort -u); do
    awk -v v="$version" 'BEGIN { print v " {" } $2 == v { print $1 ";" } END { print "};" }' \
      "$work/wanted"
  done > "$work/versions"
  [ -s "$work/versions" ] || echo '{ global: *; };' > "$work/versions"
  gcc -shared -fPIC -w "-Wl,-soname,$name,--version-script=$work/versions" -o "$3/$name" \
    "$work/source.c"
  rm -rf "$work"
}

# Debian's fio is linked with clients of ceph, gluster and others, which no guest here calls. They
# were two thirds of a guest's initramfs and half of the time that fio takes to start.
make_stand_ins() {
  local root=$1 library used='^lib(c|m|z|aio|numa)\.so'
  mkdir -p "$root$stand_ins"
  readelf -d "$root/usr/bin/fio" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE "$used" |
    while read -r library; do
      stand_in "$root/usr/bin/fio" "$(find "$root/usr/lib" -name "$library" | head -n 1)" \
        "$root$stand_ins"
    done
}

copy_guest_tool() {
  local root=$1 guest=$2 path library
  path=$(chroot "$root" /bin/sh -c "command -v $3")
  cp -L "$root$path" "$guest/bin/"
  for library in $(chroot "$root" env LD_LIBRARY_PATH="$stand_ins" ldd "$path" |
    grep -oE '/[^ ]+\.so[^ ]*'); do
    install -D "$root$library" "$guest${library/#$stand_ins//usr/lib/x86_64-linux-gnu}"
  done
}

# The guest runs the same Debian kernel as dom0, with the stock blkfront, from an initramfs.
build_guest_initramfs() {
  local root=$1 guest=$2 release=$3 name
  mkdir -p "$guest"/{bin,proc,sys,dev,tmp,mnt,modules,usr/lib,usr/lib64}
  ln -s usr/lib "$guest/lib"
  ln -s usr/lib64 "$guest/lib64"
  cp "$root/usr/bin/busybox" "$guest/bin/"
  for name in $(chroot "$root" busybox --list | grep -vx busybox); do
    ln -s busybox "$guest/bin/$name"
  done
  for name in fio mke2fs e2fsck mkfs.xfs fstrim blkdiscard \
    xenstore-read xenstore-write xenstore-ls xenstore-watch kexec; do
    rm -f "$guest/bin/$name"
    copy_guest_tool "$root" "$guest" "$name"
  done
  unpack_modules "$root" "$guest/modules" "$release" xen-blkfront xen-gntalloc xen-evtchn \
    > /dev/null
  unpack_modules "$root" "$guest/modules" "$release" ext4 xfs > "$guest/modules/file_systems"
}

add_zfs_modules() {
  local root=$1 release=$2 modules
  modules=$("$here/zfs.sh" "$root")
  mkdir -p "$root/lib/modules/$release/updates"
  cp "$modules"/* "$root/lib/modules/$release/updates/"
  depmod -b "$root" "$release"
}

build() {
  local work=$1 root=$1/root release
  build_dom0_tree "$root"
  release=$(ls "$root/lib/modules")
  if [ "$with_zfs" ]; then add_zfs_modules "$root" "$release"; fi
  cp "$root/boot/vmlinuz-$release" "$work/vmlinuz"
  cp "$root/boot/initrd.img-$release" "$work/initrd"
  zcat "$root/boot/xen-$xen-amd64.gz" > "$work/xen"
  make_stand_ins "$root"
  build_guest_initramfs "$root" "$work/guest" "$release"
  unpack_kernel "$work/vmlinuz" > "$root/rig/guest.vmlinux"
  # lz4: unpacking gzip would be half of a guest's boot under emulation.
  (cd "$work/guest" && find . | cpio --quiet -o -H newc | lz4 -l -9 -q) > "$root/rig/guest.img"
  truncate -s 6G "$work/dom0.ext4"
  mkfs.ext4 -q -F -d "$root" "$work/dom0.ext4"
  rm -rf "$root" "$work/guest"
}

require_root() {
  [ "$(id -u)" = 0 ] || { echo "rig: building the image needs root" >&2; exit 1; }
}

require_root
install_missing_host_packages
if [ ! -d "$out" ]; then
  echo "rig: building the image, once, in $out (one to four minutes${with_zfs:+, and ZFS})" >&2
  mkdir -p "$cache"
  rm -rf "${cache:?}"/"$kind"-*
  trap 'rm -rf "$out.part"' EXIT
  build "$out.part"
  mv "$out.part" "$out"
fi
echo "$out"
