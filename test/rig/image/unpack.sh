#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# For build.sh and kernels.sh, which read it: a guest's kernel and modules out of Debian's packages.

# The kernel without its compression, which libxl would undo under emulation for each guest. Where
# it is in a bzImage: Linux, Documentation/arch/x86/boot.rst, setup_sects and payload_offset.
# usage: unpack_kernel VMLINUZ
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
  # Behind the compressed data is its size, four bytes.
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

# Of scripts that make something together, so that a change of one makes it anew.
# usage: stamp_of FILE...
stamp_of() {
  cat "$@" | sha256sum | cut -c1-16
}
