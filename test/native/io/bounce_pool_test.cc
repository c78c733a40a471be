// SPDX-License-Identifier: Apache-2.0
#include "io/bounce_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <vector>

#include "io/uring.h"
#include "needs_uring.h"

namespace ringdisk {
namespace {

constexpr size_t kPoolBytes = 8u << 20;

TEST_CASE("bounce pool: blocks are page-aligned, large enough and never overlap") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  std::map<std::byte*, size_t> held;
  std::mt19937 random(20260131);
  size_t used = 0;
  size_t refused = 0;
  for (int step = 0; step < 20000; step++) {
    if (!held.empty() && random() % 2 == 0) {
      const auto victim = std::next(held.begin(), static_cast<long>(random() % held.size()));
      used -= victim->second;
      pool.release({victim->first, victim->second});
      held.erase(victim);
    } else {
      const size_t bytes = 1 + random() % (random() % 8 == 0 ? BouncePool::kBlockBytesMax : 65536);
      const std::span<std::byte> block = pool.allocate(bytes);
      if (block.empty()) {
        refused++;
        continue;
      }
      REQUIRE(block.size() >= bytes);
      REQUIRE(block.size() < 2 * std::max<size_t>(bytes, kPageBytes));
      REQUIRE(reinterpret_cast<uintptr_t>(block.data()) % kPageBytes == 0);
      const auto after = held.upper_bound(block.data());
      if (after != held.end()) REQUIRE(block.data() + block.size() <= after->first);
      if (after != held.begin())
        REQUIRE(std::prev(after)->first + std::prev(after)->second <= block.data());
      held.emplace(block.data(), block.size());
      used += block.size();
    }
    REQUIRE(pool.used_bytes() == used);
    REQUIRE(pool.free_bytes() == kPoolBytes - used);
  }
  CHECK(refused > 0);  // the model was driven to exhaustion, too
  for (const auto& [address, bytes] : held) pool.release({address, bytes});
  CHECK(pool.used_bytes() == 0);
}

TEST_CASE("bounce pool: what was split becomes whole again, in any order of release") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  std::mt19937 random(7);
  for (int round = 0; round < 5; round++) {
    std::vector<std::span<std::byte>> pages;
    for (;;) {
      const std::span<std::byte> page = pool.allocate(1);
      if (page.empty()) break;
      pages.push_back(page);
    }
    CHECK(pages.size() == kPoolBytes / kPageBytes);
    CHECK(pool.free_bytes() == 0);
    std::shuffle(pages.begin(), pages.end(), random);
    for (const auto& page : pages) pool.release(page);
    std::vector<std::span<std::byte>> blocks;
    for (size_t i = 0; i < kPoolBytes / BouncePool::kBlockBytesMax; i++) {
      blocks.push_back(pool.allocate(BouncePool::kBlockBytesMax));
      CHECK(blocks.back().size() == BouncePool::kBlockBytesMax);
    }
    CHECK(pool.allocate(1).empty());
    for (const auto& block : blocks) pool.release(block);
  }
}

TEST_CASE("bounce pool: single pages come back as they went, and are no loss to large blocks") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, BouncePool::kBlockBytesMax);
  const std::span<std::byte> first = pool.allocate(1);
  const std::span<std::byte> second = pool.allocate(1);
  pool.release(first);
  pool.release(second);
  CHECK(pool.used_bytes() == 0);
  CHECK(pool.allocate(kPageBytes).data() == second.data());  // the last one, still in the cache
  pool.release(second);
  const std::span<std::byte> all = pool.allocate(BouncePool::kBlockBytesMax);
  REQUIRE(all.size() == BouncePool::kBlockBytesMax);
  CHECK(pool.free_bytes() == 0);
  pool.release(all);
}

TEST_CASE("bounce pool: every size from one byte to the largest block") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  for (size_t bytes = 1; bytes <= BouncePool::kBlockBytesMax; bytes += 511) {
    const std::span<std::byte> block = pool.allocate(bytes);
    REQUIRE(block.size() == std::max<size_t>(std::bit_ceil(bytes), kPageBytes));
    pool.release(block);
  }
}

TEST_CASE("bounce pool: rounds its size up to whole blocks and touches nothing before use") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, 1);
  CHECK(pool.free_bytes() == BouncePool::kBlockBytesMax);
  CHECK_FALSE(pool.registered());
}

}  // namespace
}  // namespace ringdisk
