// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bitmap.h"
#include "nbd/negotiation.h"
#include "request/limits.h"
#include "targets/target.h"

namespace ringdisk::nbd {

// The number of "base:allocation".
inline constexpr uint32_t kAllocationContext = 1;
// Those of the bitmaps, "qemu:dirty-bitmap:NAME", count from here.
inline constexpr uint32_t kFirstBitmapContext = 2;

// What clients of one name get. Read by all reactors.
struct Export {
  ExportFacts facts;
  std::shared_ptr<Target> target;
  uint32_t id = 0;  // the engine's handle
  Bitmaps bitmaps{};
  bool detect_zeroes = false;        // by reading, where the medium does not tell
  std::shared_ptr<Limits> limits{};  // of all its clients together; null: none
};

// All of one socket. Never changed: a new one takes its place.
struct Exports {
  std::vector<Export> all;
  std::vector<ExportFacts> facts;  // of each, in the same order
};

}  // namespace ringdisk::nbd
