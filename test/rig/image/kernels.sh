#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Other kernels for the rig's guests: Debian 12's and the newest of Debian 13's backports, each as
# NAME.vmlinux and NAME.img, the modules that go over those in the guests' initramfs.
# usage: kernels.sh      (as root; prints the folder)
# Cached beside the image under a stamp of this file; RIG_MIRROR as for build.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGDISK_RIG_DIR:-$HOME/.cache/ringdisk-rig}
out=$cache/kernels-$(sha256sum "$here/kernels.sh" | cut -c1-16)
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

# The kernel without its compression; see unpack_kernel() in build.sh.
unpack_kernel() {
  local sectors offset length start program
  sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
  read -r offset length < <(od -An -tu4 -j $((0x248)) -N 8 "$1")
  start=$(((sectors + 1) * 512 + offset))
  case $(od -An -tx1 -j $start -N 4 "$1" | tr -d ' ') in
    28b52ffd) program='zstd -dcq' ;;
    fd377a58) program='xz -dc --single-stream' ;;
    *) program='gzip -dc' ;;
  esac
  head -c $((start + length - 4)) "$1" | tail -c +$((start + 1)) | $program
}

# usage: unpack_modules ROOT INTO RELEASE MODULE...: with what they need; prints their files' names
unpack_modules() {
  local root=$1 into=$2 release=$3 module ko name
  for module in "${@:4}"; do
    modprobe -d "$root" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' | while read -r ko; do
    name=$(basename "$ko")
    case $ko in
      *.xz) xz -dc "$ko" > "$into/${name%.xz}" ;;
      *.zst) zstd -dcq "$ko" > "$into/${name%.zst}" ;;
      *) cp "$ko" "$into/$name" ;;
    esac
    name=${name%.xz}
    echo "${name%.zst}"
  done
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
  command -v depmod > /dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kmod >&2
  echo "rig: fetching the guests' other kernels, once, into $out" >&2
  rm -rf "${cache:?}"/kernels-*
  mkdir -p "$out.part"
  trap 'rm -rf "$out.part"' EXIT
  make debian12 bookworm "$out.part/work"
  make backports trixie-backports "$out.part/work"
  mv "$out.part" "$out"
fi
echo "$out"
