// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/zeroes.h"

namespace ringdisk {

// What every request is once it has been checked, in whichever language it came: all that an engine
// ever sees of it.
struct ValidRequest {
  // map: what of the range is data; see medium/block_map.h.
  enum class Kind : uint8_t { read, write, barrier, flush, discard, map };
  Kind kind;
  bool secure;     // discard
  uint16_t pages;  // read, write, barrier: the asker's, that its data lies in
  uint64_t sector;
  uint64_t sector_count;       // all data together, or the discarded or mapped range; 0 for flush
  Zeroes zeroes = Zeroes::no;  // discard
  bool by_reading = false;     // map: zeroes are looked for where the medium does not tell
};

}  // namespace ringdisk
