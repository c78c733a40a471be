// SPDX-License-Identifier: Apache-2.0
// Bits by chunk, beside a plain row of them.
#include "channels/chunk_bits.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ringdisk {
namespace {

TEST_CASE("chunk bits: what is clear is found, whatever was set and cleared before") {
  std::minstd_rand random(1);
  for (const uint64_t count : {1ull, 63ull, 64ull, 65ull, 4096ull, 4100ull, 20'000ull}) {
    CAPTURE(count);
    ChunkBits bits(count);
    std::vector<bool> plain(count);
    for (int i = 0; i < 400; i++) {
      const uint64_t first = random() % count;
      const uint64_t end = first + 1 + random() % (count - first);
      const bool sets = random() % 3 > 0;
      const auto differs = [sets](bool one) { return one != sets; };
      const auto from = plain.begin() + static_cast<long>(first);
      const auto to = plain.begin() + static_cast<long>(end);
      const auto changed = static_cast<uint64_t>(std::count_if(from, to, differs));
      const bool had_any = std::find(from, to, true) != to;
      REQUIRE(bits.any(first, end) == had_any);
      REQUIRE((sets ? bits.set(first, end) : bits.clear(first, end)) == changed);
      std::fill(from, to, sets);
      const uint64_t at = random() % (count + 1);
      const auto clear = std::find(plain.begin() + static_cast<long>(at), plain.end(), false);
      REQUIRE(bits.next_clear(at) == static_cast<uint64_t>(clear - plain.begin()));
      REQUIRE(bits.has(first) == sets);
    }
  }
}

}  // namespace
}  // namespace ringdisk
