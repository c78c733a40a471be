// SPDX-License-Identifier: Apache-2.0
#include "io/bounce_share.h"

#include <doctest/doctest.h>

#include <vector>

#include "io/uring.h"
#include "needs_uring.h"

namespace ringdisk {
namespace {

constexpr size_t kPoolBytes = 8u << 20;
constexpr size_t kRequest = 64u << 10;

std::vector<BounceShare::Block> take_all(BounceShare& share, size_t bytes) {
  std::vector<BounceShare::Block> blocks;
  for (;;) {
    const BounceShare::Block block = share.allocate(bytes);
    if (block.memory.empty()) return blocks;
    blocks.push_back(block);
  }
}

void release_all(BounceShare& share, const std::vector<BounceShare::Block>& blocks) {
  for (const auto& block : blocks) share.release(block);
}

TEST_CASE("bounce share: one queue takes half of the pool and its reserve, no more") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  BounceShare greedy(pool);
  const auto blocks = take_all(greedy, kRequest);
  CHECK(pool.used_bytes() == kPoolBytes / 2);
  CHECK(blocks.size() == kPoolBytes / 2 / kRequest + 1);
  CHECK(greedy.used_bytes() == kPoolBytes / 2 + BouncePool::kBlockBytesMax);
  release_all(greedy, blocks);
  CHECK(greedy.used_bytes() == 0);
  CHECK(pool.used_bytes() == 0);
}

TEST_CASE("bounce share: a queue that comes late still gets half of what is left") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  BounceShare greedy(pool);
  BounceShare late(pool);
  const auto hog = take_all(greedy, kRequest);
  const auto rest = take_all(late, kRequest);
  CHECK(rest.size() == kPoolBytes / 4 / kRequest + 1);
  release_all(greedy, hog);
  release_all(late, rest);
}

TEST_CASE("bounce share: with the pool exhausted each queue has room for its largest request") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  std::vector<std::span<std::byte>> everything;
  while (!everything.emplace_back(pool.allocate(BouncePool::kBlockBytesMax)).empty());
  everything.pop_back();
  BounceShare first(pool);
  BounceShare second(pool);
  for (BounceShare* share : {&first, &second}) {
    const BounceShare::Block block = share->allocate(BouncePool::kBlockBytesMax);
    REQUIRE(block.memory.size() == BouncePool::kBlockBytesMax);
    CHECK_FALSE(block.registered);
    CHECK(share->allocate(1).memory.empty());
    block.memory.front() = block.memory.back() = std::byte{1};
    share->release(block);
    const BounceShare::Block again = share->allocate(1);
    CHECK_FALSE(again.memory.empty());
    share->release(again);
  }
  for (const auto& block : everything) pool.release(block);
}

TEST_CASE("bounce share: only memory of the pool is called registered") {
  if (!has_io_uring()) return;
  Uring uring(probe_uring());
  BouncePool pool(uring, kPoolBytes);
  BounceShare share(pool);
  const auto blocks = take_all(share, BouncePool::kBlockBytesMax);
  REQUIRE(blocks.size() == 3);
  CHECK(blocks[0].registered == pool.registered());
  CHECK(blocks[1].registered == pool.registered());
  CHECK_FALSE(blocks[2].registered);
  release_all(share, blocks);
}

}  // namespace
}  // namespace ringdisk
