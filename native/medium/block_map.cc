// SPDX-License-Identifier: Apache-2.0
#include "medium/block_map.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/units.h"

namespace ringdisk {
namespace {

bool is_zero(const std::byte* bytes, size_t count) {
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, count - 1) == 0;
}

}  // namespace

int32_t map_holes(int fd, uint64_t offset, uint64_t length, std::byte* memory) {
  MapExtent extents[kMapExtents] = {};
  const auto end = static_cast<off_t>(offset + length);
  auto at = static_cast<off_t>(offset);
  for (size_t count = 0; at < end && count < kMapExtents; count++) {
    // Behind the last data there is none to be found (ENXIO), nor behind the end of the file.
    off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return -errno;
    if (data < 0) data = end;
    const bool is_hole = data > at;
    off_t next = is_hole ? data : ::lseek(fd, at, SEEK_HOLE);
    if (next < 0) return -errno;
    next = std::min(next, end);
    extents[count] = {static_cast<uint64_t>(next - at), is_hole ? MapKind::hole : MapKind::data};
    at = next;
  }
  std::memcpy(memory, extents, sizeof extents);
  return sizeof extents;
}

int32_t map_zeroes(int fd, uint64_t offset, uint64_t length, std::byte* memory) {
  const std::unique_ptr<std::byte, void (*)(void*)> read(
      static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kMapUnitBytes)), std::free);
  if (!read) return -ENOMEM;
  MapExtent extents[kMapExtents] = {};
  size_t count = 0;
  const uint64_t end = offset + std::min(length, kMapReadBytesMax);
  for (uint64_t at = offset; at < end;) {
    uint64_t here = std::min(end, (at / kMapUnitBytes + 1) * kMapUnitBytes) - at;
    const ssize_t got = ::pread(fd, read.get(), here, static_cast<off_t>(at));
    if (got > 0) here = static_cast<uint64_t>(got);
    const MapKind kind = got > 0 && is_zero(read.get(), here) ? MapKind::zero : MapKind::data;
    at += here;
    if (count > 0 && extents[count - 1].kind == kind)
      extents[count - 1].length += here;
    else if (count < kMapExtents)
      extents[count++] = {here, kind};
    else
      break;
  }
  std::memcpy(memory, extents, sizeof extents);
  return sizeof extents;
}

}  // namespace ringdisk
