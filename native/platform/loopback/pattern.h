// SPDX-License-Identifier: Apache-2.0
// Content that describes itself: every 64-bit word of a sector follows from the seed, the sector's
// number and the word's place, so that a misplaced, torn or stale sector cannot pass for the right
// one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk {

// Both take one sector (kSectorBytes bytes, 8-byte aligned).
void fill_sector(std::byte* to, uint64_t seed, uint64_t sector);
bool sector_matches(const std::byte* from, uint64_t seed, uint64_t sector);

}  // namespace ringdisk
