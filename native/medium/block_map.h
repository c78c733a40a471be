// SPDX-License-Identifier: Apache-2.0
// What of a medium is data, as a LaneCall::map answers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk {

enum class MapKind : uint64_t {
  data,
  hole,  // reads as zeroes and takes no space
  zero,  // reads as zeroes
};

struct MapExtent {
  uint64_t length;  // bytes; 0: this and all that follow are none
  MapKind kind;
};

// In the order of the medium, from the offset that was asked for; what they leave out is unknown.
inline constexpr size_t kMapBytes = 4096;
inline constexpr size_t kMapExtents = kMapBytes / sizeof(MapExtent);
// Read for one call, where zeroes are looked for; in units of the second.
inline constexpr uint64_t kMapReadBytesMax = 4u << 20;
inline constexpr uint64_t kMapUnitBytes = 64u << 10;

// As the file system tells. Both return bytes written to `memory` (kMapBytes), or -errno.
int32_t map_holes(int fd, uint64_t offset, uint64_t length, std::byte* memory);
// By reading the beginning of the range. What cannot be read counts as data.
int32_t map_zeroes(int fd, uint64_t offset, uint64_t length, std::byte* memory);

}  // namespace ringdisk
