// SPDX-License-Identifier: Apache-2.0
// The data path's clock: CLOCK_MONOTONIC.
#pragma once

#include <time.h>

#include <cstdint>

namespace ringdisk {

inline constexpr uint64_t kNever = UINT64_MAX;

inline uint64_t clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t clock_us() { return clock_ns() / 1000; }

}  // namespace ringdisk
