#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the rig's machine: the Xen hypervisor, a Debian dom0 and the initramfs of a Debian guest.
# usage: build.sh        (as root; prints the folder that boot.sh takes)
#
# The result is cached in RINGDISK_RIG_DIR (default ~/.cache/ringdisk-rig) under a stamp of this
# file, so only a change here builds again. The init scripts are not part of it: boot.sh adds them.
# RIG_MIRROR names another Debian mirror than mmdebstrap's own choice.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
suite=trixie
xen=4.20
stamp=$suite-$(sha256sum "$here/build.sh" | cut -c1-16)
out=$cache/$stamp

host_packages() {
  cat <<-PACKAGES
	mmdebstrap qemu-system-x86 seabios ipxe-qemu e2fsprogs cpio xz-utils lz4
	PACKAGES
}

dom0_packages() {
  local packages=(
    "xen-hypervisor-$xen-amd64" "xen-utils-$xen" xenstore-utils linux-image-amd64 initramfs-tools
    nodejs liburing2 fio e2fsprogs xfsprogs kmod util-linux udev iproute2 procps busybox gdb strace
    dmsetup qemu-system-xen linux-perf libc6-dbg
  )
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
  mmdebstrap --quiet --variant=minbase --components=main --include="$(dom0_packages)" \
    "$suite" - ${RIG_MIRROR:-} | tar -xf - -C "$root" --exclude='./dev/*'
  mkdir -p "$root/host"
  write_stub "$root/sbin/rig-stub"
}

copy_guest_tool() {
  local root=$1 guest=$2 path library
  path=$(chroot "$root" /bin/sh -c "command -v $3")
  cp -L "$root$path" "$guest/bin/"
  for library in $(chroot "$root" ldd "$path" | grep -oE '/[^ ]+\.so[^ ]*'); do
    mkdir -p "$guest$(dirname "$library")"
    cp -Ln "$root$library" "$guest$library"
  done
}

copy_guest_modules() {
  local root=$1 guest=$2 release=$3 module ko
  mkdir -p "$guest/modules"
  for module in xen-blkfront xen-gntalloc xen-evtchn ext4 xfs; do
    chroot "$root" modprobe -S "$release" --show-depends "$module" | awk '{print $2}'
  done | awk '!seen[$0]++' | while read -r ko; do
    xz -dc "$root$ko" > "$guest/modules/$(basename "${ko%.xz}")"
    basename "${ko%.xz}" >> "$guest/modules/order"
  done
}

# The guest runs the same Debian kernel as dom0, with the stock blkfront, from an initramfs.
build_guest_initramfs() {
  local root=$1 guest=$2 release=$3 name
  mkdir -p "$guest"/{bin,proc,sys,dev,tmp,mnt,lib64}
  cp "$root/usr/bin/busybox" "$guest/bin/"
  for name in $(chroot "$root" busybox --list); do ln -s busybox "$guest/bin/$name"; done
  for name in fio mke2fs e2fsck mkfs.xfs fstrim blkdiscard blockdev lsblk sha256sum \
    xenstore-read xenstore-write xenstore-ls xenstore-watch; do
    rm -f "$guest/bin/$name"
    copy_guest_tool "$root" "$guest" "$name"
  done
  copy_guest_modules "$root" "$guest" "$release"
}

build() {
  local work=$1 release
  build_dom0_tree "$work/root"
  release=$(ls "$work/root/lib/modules")
  cp "$work/root/boot/vmlinuz-$release" "$work/vmlinuz"
  cp "$work/root/boot/initrd.img-$release" "$work/initrd"
  zcat "$work/root/boot/xen-$xen-amd64.gz" > "$work/xen"
  build_guest_initramfs "$work/root" "$work/guest" "$release"
  # lz4: unpacking gzip would be half of a guest's boot under emulation.
  (cd "$work/guest" && find . | cpio --quiet -o -H newc | lz4 -l -9 -q) > "$work/guest.img"
  truncate -s 6G "$work/dom0.ext4"
  mkfs.ext4 -q -F -d "$work/root" "$work/dom0.ext4"
  rm -rf "$work/root" "$work/guest"
}

require_root() {
  [ "$(id -u)" = 0 ] || { echo "rig: building the image needs root" >&2; exit 1; }
}

require_root
install_missing_host_packages
if [ ! -d "$out" ]; then
  echo "rig: building the image, once, in $out (two to four minutes)" >&2
  mkdir -p "$cache"
  rm -rf "${cache:?}"/"$suite"-*
  trap 'rm -rf "$out.part"' EXIT
  build "$out.part"
  mv "$out.part" "$out"
fi
echo "$out"
