// SPDX-License-Identifier: Apache-2.0
// One call to a medium, as it lies in the memory that a worker shares with the data path.
#pragma once

#include <cstdint>

namespace ringdisk {

enum class LaneCall : uint32_t {
  read,
  write,
  flush,
  punch_hole,
  discard,
  secure_discard,
  zero,       // the space may be given back
  zero_keep,  // it stays taken
  zero_fast,  // as zero, but nothing is written
  map,        // see block_map.h
  map_zeroes,
};
inline constexpr uint32_t kLaneCalls = 11;

// Between the asker's memory and the medium.
inline bool moves_data(LaneCall call) { return call == LaneCall::read || call == LaneCall::write; }

inline bool maps(LaneCall call) { return call == LaneCall::map || call == LaneCall::map_zeroes; }

struct LaneSubmission {
  LaneCall call;
  uint32_t tag;     // comes back with the completion
  uint64_t offset;  // bytes on the medium
  uint64_t length;  // bytes; 0 for flush
  uint32_t
      window;  // read, write, map, map_zeroes: where the data is, bytes from the window's start
  uint32_t reserved;
};

}  // namespace ringdisk
