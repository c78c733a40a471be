// SPDX-License-Identifier: Apache-2.0
// What of a medium is data, as a LaneCall::map answers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk {

struct MapExtent {
  uint64_t length;   // bytes; 0: this and all that follow are none
  uint64_t is_hole;  // 1: reads as zeroes and takes no space
};

// In the order of the medium, from the offset that was asked for; what they leave out is unknown.
inline constexpr size_t kMapBytes = 4096;
inline constexpr size_t kMapExtents = kMapBytes / sizeof(MapExtent);

}  // namespace ringdisk
