// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ringdisk {

// What every request is once it has been checked, in whichever language it came: all that an engine
// ever sees of it.
struct ValidRequest {
  enum class Kind : uint8_t { read, write, barrier, flush, discard };
  Kind kind;
  bool secure;     // discard
  uint16_t pages;  // read, write, barrier: the asker's, that its data lies in
  uint64_t sector;
  uint64_t sector_count;  // all data together, or the discarded range; 0 for flush
};

}  // namespace ringdisk
