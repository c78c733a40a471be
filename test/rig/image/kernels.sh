#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Other kernels for the rig's guests: Debian 12's and the newest of Debian 13's backports, each as
# NAME.vmlinux and NAME.img, the modules that go over those in the guests' initramfs.
# usage: kernels.sh      (as root; prints the folder)
# Cached beside the image under a stamp of this file and of unpack.sh; RIG_MIRROR as for build.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
. "$here/unpack.sh"
out=$cache/kernels-$(stamp_of "$here/kernels.sh" "$here/unpack.sh")
keys=/usr/share/keyrings/debian-archive-keyring.gpg

# usage: fetch SUITE FOLDER: the packages of the suite's kernel, unpacked there
fetch() {
  local suite=$1 folder=$2 options packages package
  mkdir -p "$folder"/{apt/lists/partial,apt/archives/partial,root}
  touch "$folder/apt/status"
  echo "deb [signed-by=$keys] ${RIG_MIRROR:-http://deb.debian.org/debian} $suite main" \
    > "$folder/apt/sources.list"
  options=(
    -qq -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status"
    -o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt"
    -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=-
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none
  )
  apt-get "${options[@]}" update >&2
  # Newer ones are in several packages.
  packages=$(apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests \
    --no-conflicts --no-breaks --no-replaces linux-image-amd64 |
    grep -E '^linux-(image|base|binary|modules)-[0-9]')
  # shellcheck disable=SC2086 # One word per package.
  (cd "$folder/apt/archives" && apt-get "${options[@]}" download $packages >&2)
  for package in "$folder"/apt/archives/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
}

# usage: make NAME SUITE FOLDER
make() {
  local name=$1 folder=$3 root=$3/root release
  fetch "$2" "$folder"
  [ -d "$root/lib/modules" ] || ln -s usr/lib "$root/lib"
  release=$(ls "$root/lib/modules")
  depmod -b "$root" "$release"
  mkdir -p "$folder/guest/modules"
  unpack_modules "$root" "$folder/guest/modules" "$release" xen-blkfront xen-gntalloc \
    xen-evtchn > /dev/null
  unpack_modules "$root" "$folder/guest/modules" "$release" ext4 xfs \
    > "$folder/guest/modules/file_systems"
  unpack_kernel "$(find "$root" -name 'vmlinuz*' -type f)" > "$3/../$name.vmlinux"
  (cd "$folder/guest" && find . | cpio --quiet -o -H newc | lz4 -l -9 -q) > "$3/../$name.img"
  rm -rf "$folder"
}

if [ ! -d "$out" ]; then
  echo "rig: fetching the guests' other kernels, once, into $out" >&2
  rm -rf "${cache:?}"/kernels-*
  mkdir -p "$out.part"
  trap 'rm -rf "$out.part"' EXIT
  make debian12 bookworm "$out.part/work"
  make backports trixie-backports "$out.part/work"
  mv "$out.part" "$out"
fi
echo "$out"
