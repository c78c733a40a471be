// SPDX-License-Identifier: Apache-2.0
// One reactor's bounce memory: a region handed out in contiguous blocks of 4 KiB to 2 MiB (a buddy
// allocator, so that neither time nor memory depends on what guests do). Backed by huge pages where
// the kernel has them, and registered with the reactor's io_uring when the pool is first used:
// guest memory itself is never registered, since its pages would stay pinned after our death.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"

namespace ringdisk {

class Uring;

class BouncePool {
 public:
  static constexpr uint32_t kOrders = 10;  // 4 KiB << 0 .. 4 KiB << 9
  static constexpr size_t kBlockBytesMax = size_t{kPageBytes} << (kOrders - 1);
  static constexpr uint32_t kSparesMax = 128;

  // `bytes` is rounded up to a multiple of kBlockBytesMax. No memory is touched yet.
  BouncePool(Uring& uring, size_t bytes);
  ~BouncePool();
  BouncePool(const BouncePool&) = delete;
  BouncePool& operator=(const BouncePool&) = delete;

  // At least `bytes` (1 .. kBlockBytesMax), page-aligned; empty when there is none: wait for others
  // to release theirs.
  std::span<std::byte> allocate(size_t bytes);
  void release(std::span<std::byte> block);

  bool registered() const { return registered_; }
  size_t used_bytes() const { return used_pages_ * kPageBytes; }
  size_t free_bytes() const { return bytes_ - used_bytes(); }

 private:
  struct Links {
    uint32_t next, previous;
  };
  bool set_up();
  std::span<std::byte> take_spare();
  std::span<std::byte> allocate_block(uint32_t order);
  void release_block(uint32_t order, uint32_t page);
  bool merge_spares();
  std::span<std::byte> block(uint32_t order, uint32_t page) const;
  void push(uint32_t order, uint32_t page);
  void unlink(uint32_t order, uint32_t page);

  Uring& uring_;
  size_t bytes_;
  std::byte* memory_ = nullptr;
  bool registered_ = false;
  size_t used_pages_ = 0;
  // Single pages as they came back, not merged with their neighbours: the next small request takes
  // the last one, whose memory is still in the cache. They count as free.
  std::array<uint32_t, kSparesMax> spares_;
  uint32_t spare_count_ = 0;
  uint32_t heads_[kOrders];
  std::vector<Links> links_;  // by page, valid for the first page of a free block
  // By page: order of the free block that starts here, or kUsed or kSpare.
  std::vector<uint8_t> free_order_;
};

}  // namespace ringdisk
