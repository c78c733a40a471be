#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds Debian's ZFS modules (zfs-dkms, in contrib) for the kernel of the rig's dom0, in a tree of
# their own: neither compiler nor headers get into dom0's image.
# usage: zfs.sh RELEASE      (as root; prints the folder with the modules)
# Cached beside the image under a stamp of this file and the kernel's release; RIG_MIRROR as for
# build.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
release=$1
. "$here/unpack.sh"
out=$cache/zfs-$release-$(stamp_of "$here/zfs.sh")

# Chrooted, DKMS would build for the host's kernel, too; it is asked for this one alone, afterwards.
build_modules() {
  local root=$1 into=$2 version
  # shellcheck disable=SC2086 # RIG_MIRROR is absent or one word.
  mmdebstrap --quiet --variant=minbase --components=main,contrib \
    --include="linux-headers-$release,dkms,kmod,xz-utils" \
    --customize-hook='printf "#!/bin/sh\nexit 0\n" > "$1/rig-no-dkms"' \
    --customize-hook='chmod 755 "$1/rig-no-dkms"' \
    --customize-hook='chroot "$1" dpkg-divert --quiet --rename /usr/lib/dkms/common.postinst' \
    --customize-hook='mv "$1/rig-no-dkms" "$1/usr/lib/dkms/common.postinst"' \
    --customize-hook='DEBIAN_FRONTEND=noninteractive chroot "$1" \
      apt-get install -qq -y --no-install-recommends zfs-dkms' \
    trixie - ${RIG_MIRROR:-} | tar -xf - -C "$root" --exclude='./dev/*'
  mount --bind /dev "$root/dev"
  version=$(basename "$root"/usr/src/zfs-*)
  if ! chroot "$root" dkms build "zfs/${version#zfs-}" -k "$release" > "$root/build.log" 2>&1; then
    umount "$root/dev"
    tail -n 50 "$root/build.log" "$root/var/lib/dkms/zfs/${version#zfs-}/build/make.log" >&2
    return 1
  fi
  umount "$root/dev"
  find "$root/var/lib/dkms/zfs" -path "*$release*" -name '*.ko*' -exec cp {} "$into/" \;
  [ -n "$(ls "$into")" ]
}

if [ ! -d "$out" ]; then
  echo "rig: building ZFS for $release, once, in $out (some ten minutes)" >&2
  rm -rf "${cache:?}"/zfs-*
  work=$(mktemp -d)
  trap 'rm -rf "$work" "$out.part"' EXIT
  mkdir -p "$out.part" "$work/root/dev"
  build_modules "$work/root" "$out.part" >&2
  mv "$out.part" "$out"
fi
echo "$out"
