// SPDX-License-Identifier: Apache-2.0
// Random numbers by name: each decision has a stream of its own, so that what one part of a run
// draws does not depend on how far another part got before a process died.
#pragma once

#include <cstdint>

namespace ringdisk::sim {

class Random {
 public:
  enum class Stream : uint64_t { layout, kill, request, spoil, fault, bitmap };
  Random(uint64_t seed, Stream stream, uint64_t number)
      : state_(mix(mix(seed) ^ mix(static_cast<uint64_t>(stream) << 56 ^ number))) {}

  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15); }
  // 0 .. bound - 1
  uint32_t below(uint64_t bound) { return static_cast<uint32_t>(next() % bound); }
  // first .. last
  uint32_t between(uint32_t first, uint32_t last) { return first + below(last - first + 1u); }
  bool percent(uint32_t chance) { return below(100) < chance; }

 private:
  // splitmix64
  static uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }
  uint64_t state_;
};

}  // namespace ringdisk::sim
