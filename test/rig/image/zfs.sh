#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds ZFS's modules for the rig's dom0 out of the source that Debian's zfs-dkms (contrib) brings,
# configured as DKMS would. It is done in a copy of dom0's tree, so that neither compiler nor
# headers get into the image.
# usage: zfs.sh ROOT      (as root; ROOT: dom0's tree; prints the folder with the modules)
# Cached beside the image under a stamp of this file and the kernel's release.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
root=$1
. "$here/unpack.sh"
release=$(ls "$root/lib/modules")
out=$cache/zfs-$release-$(stamp_of "$here/zfs.sh")

# usage: inside COPY COMMAND...
inside() {
  DEBIAN_FRONTEND=noninteractive chroot "$@" >&2
}

# usage: install_compiler COPY: which starts no services, and makes no initramfs for it
install_compiler() {
  local copy=$1
  cp /etc/resolv.conf "$copy/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' > "$copy/usr/sbin/policy-rc.d"
  chmod 755 "$copy/usr/sbin/policy-rc.d"
  ln -sf /bin/true "$copy/usr/sbin/update-initramfs"
  inside "$copy" apt-get -qq -o APT::Sandbox::User=root update
  inside "$copy" apt-get install -qq -y --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io "linux-headers-$release" gcc make libc6-dev
}

# usage: compile COPY
compile() {
  local copy=$1 log=$1/root/build.log
  inside "$copy" sh -c 'cd /root && apt-get download -qq zfs-dkms && dpkg-deb -x zfs-dkms_*.deb .'
  # The names are for the shell inside.
  # shellcheck disable=SC2016
  if ! inside "$copy" sh -ec 'cd /root/usr/src/zfs-*
    ./configure --disable-dependency-tracking --prefix=/usr --with-config=kernel \
      --with-linux="/lib/modules/$0/source" --with-linux-obj="/lib/modules/$0/build"
    make -j"$(nproc)"' "$release" 2> "$log"; then
    tail -n 50 "$log" >&2
    return 1
  fi
}

build_modules() {
  local copy=$1 into=$2
  cp -a "$root/." "$copy/"
  mount --bind /dev "$copy/dev"
  mount -t proc proc "$copy/proc"
  install_compiler "$copy"
  compile "$copy"
  find "$copy/root/usr/src" -name '*.ko' -exec cp {} "$into/" \;
  strip --strip-debug "$into"/*.ko
}

clean_up() {
  umount "$work/root/dev" "$work/root/proc" 2> /dev/null || true
  rm -rf --one-file-system "$work" "$out.part"
}

if [ ! -d "$out" ]; then
  echo "rig: building ZFS for $release, once, in $out (some ten minutes)" >&2
  rm -rf "${cache:?}"/zfs-*
  work=$(mktemp -d)
  trap clean_up EXIT
  mkdir -p "$out.part" "$work/root/dev" "$work/root/proc"
  build_modules "$work/root" "$out.part" > /dev/null
  mv "$out.part" "$out"
fi
echo "$out"
