// SPDX-License-Identifier: Apache-2.0
// How each life of the backend ends: a pure function of the seed and the cycle's number.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace ringdisk::sim {

// Where native/ has an RD_KILL_POINT. `spread`: it is passed so often that dying at any of the
// first `spread` times is worth trying.
struct KnownKillPoint {
  const char* name;
  uint32_t spread;
};
std::span<const KnownKillPoint> known_kill_points();

struct KillPlan {
  std::string kill_point;  // empty: killed from outside, or not at all
  uint32_t count = 1;
  uint32_t requests = 0;    // how many to submit in this cycle
  bool disconnect = false;  // then disconnect; else kill it if it still lives
  bool faulty = false;      // writes to half of its disk fail for a while
};

// `only`: this kill point in every cycle; empty: any.
KillPlan plan_kill(uint64_t seed, uint64_t cycle, const std::string& only);

}  // namespace ringdisk::sim
