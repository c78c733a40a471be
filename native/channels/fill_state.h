// SPDX-License-Identifier: Apache-2.0
// What all channels of a disk that is being filled share. The home (fill_home.h) alone changes it.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>

#include "base/units.h"
#include "channels/fill_map.h"

namespace ringdisk {

struct FillState {
  FillHeader header{};
  uint64_t chunks = 0;
  std::unique_ptr<FillLive> live;  // null where all was here at once

  // Everything is here, and the map on its medium says so.
  std::atomic<bool> straight{false};
  std::atomic<uint64_t> absent{0};
  // Bits of the live map that the map on the medium has not, or not for sure. Counted before the
  // bit is set: whoever has seen a bit finds it counted until it is durable.
  std::atomic<uint64_t> unsaved{0};

  // To be looked at.
  std::atomic<uint64_t> fetched_bytes{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<int> failing{0};  // the errno that the job met last; 0: it goes on

  uint64_t chunk_bytes() const { return header.chunk_bytes; }
  bool is_here(uint64_t chunk) const {
    if (chunk >= chunks) return true;  // the source ends before
    return (word(chunk / 64) >> (chunk % 64) & 1) != 0;
  }
  // Whether these bytes are.
  bool is_here(uint64_t offset, uint64_t length) const {
    const uint64_t first = offset / chunk_bytes();
    const uint64_t end = std::min((offset + length + chunk_bytes() - 1) / chunk_bytes(), chunks);
    return next_absent(first, end) >= end;
  }
  // The first in this range that is not here; `end`: all are.
  uint64_t next_absent(uint64_t first, uint64_t end) const {
    for (uint64_t at = first; at < end;) {
      const uint64_t missing = ~word(at / 64) >> (at % 64);
      if (missing != 0) return std::min(at + static_cast<unsigned>(std::countr_zero(missing)), end);
      at = (at / 64 + 1) * 64;
    }
    return end;
  }
  uint64_t word(uint64_t index) const {
    return live->words()[index].load(std::memory_order_acquire);
  }
};

}  // namespace ringdisk
