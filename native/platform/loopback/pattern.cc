// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/pattern.h"

#include <cstring>

#include "base/units.h"

namespace ringdisk {

namespace {

constexpr size_t kWords = kSectorBytes / sizeof(uint64_t);
// An odd number with its bits well spread: words differ in many bits from their neighbours.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

// The finaliser of splitmix64: neighbouring inputs give unrelated outputs.
constexpr uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

constexpr uint64_t first_word(uint64_t seed, uint64_t sector) {
  return mix(mix(seed + kStep) ^ sector);
}

}  // namespace

void fill_sector(std::byte* to, uint64_t seed, uint64_t sector) {
  uint64_t word = first_word(seed, sector);
  for (size_t i = 0; i < kWords; i++, word += kStep) {
    std::memcpy(to + i * sizeof(word), &word, sizeof(word));
  }
}

bool sector_matches(const std::byte* from, uint64_t seed, uint64_t sector) {
  uint64_t word = first_word(seed, sector);
  uint64_t difference = 0;
  for (size_t i = 0; i < kWords; i++, word += kStep) {
    uint64_t found;
    std::memcpy(&found, from + i * sizeof(found), sizeof(found));
    difference |= found ^ word;
  }
  return difference == 0;
}

}  // namespace ringdisk
