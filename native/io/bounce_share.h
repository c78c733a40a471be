// SPDX-License-Identifier: Apache-2.0
// One queue's claim on its reactor's bounce pool. A queue may hold no more than what is still free
// for everybody else, so one on a device that hangs gets half the pool, the next half of the rest.
// What it always has is a reserve of its own, big enough for any one request: with the pool
// exhausted a queue is slow, never stuck.
#pragma once

#include <cstddef>
#include <span>

#include "io/bounce_pool.h"

namespace ringdisk {

class BounceShare {
 public:
  explicit BounceShare(BouncePool& pool);  // throws std::system_error
  ~BounceShare();
  BounceShare(const BounceShare&) = delete;
  BounceShare& operator=(const BounceShare&) = delete;

  struct Block {
    std::span<std::byte> memory;  // empty: none, wait until this queue releases some
    bool registered = false;      // lies in the pool that io_uring knows
  };
  // 1 <= bytes <= BouncePool::kBlockBytesMax
  Block allocate(size_t bytes);
  void release(const Block& block);
  // Its memory, if it has been used and is not now.
  void give_reserve_back();
  bool holds_reserve() const { return reserve_touched_; }
  size_t used_bytes() const { return used_bytes_; }

 private:
  bool owns_reserve(const Block& block) const { return block.memory.data() == reserve_; }

  BouncePool& pool_;
  size_t used_bytes_ = 0;
  std::byte* reserve_;  // kBlockBytesMax; costs no memory until used
  bool reserve_used_ = false;
  bool reserve_touched_ = false;
};

}  // namespace ringdisk
