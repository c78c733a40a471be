// SPDX-License-Identifier: Apache-2.0
#include "io/bounce_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "io/uring.h"

namespace ringdisk {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint8_t kUsed = 0xff;
constexpr uint8_t kSpare = 0xfe;

uint32_t order_of(size_t bytes) {
  const size_t pages = (bytes + kPageBytes - 1) / kPageBytes;
  return static_cast<uint32_t>(std::bit_width(pages - 1));
}

}  // namespace

BouncePool::BouncePool(Uring& uring, size_t bytes)
    : uring_(uring),
      bytes_((std::max<size_t>(bytes, 1) + kBlockBytesMax - 1) / kBlockBytesMax * kBlockBytesMax) {
  std::fill(std::begin(heads_), std::end(heads_), kNone);
}

BouncePool::~BouncePool() {
  RD_ASSERT(used_pages_ == 0);
  if (memory_) ::munmap(memory_, bytes_);
}

// Late, so that a daemon whose guests all use persistent grants never pays for it.
bool BouncePool::set_up() {
  // Over-allocated by one block and trimmed, so that huge pages and blocks share their alignment.
  const size_t reserve = bytes_ + kBlockBytesMax;
  void* memory =
      ::mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const size_t before = -reinterpret_cast<uintptr_t>(memory) % kBlockBytesMax;
  const size_t behind = reserve - before - bytes_;
  memory_ = static_cast<std::byte*>(memory) + before;
  if (before > 0) ::munmap(memory, before);
  if (behind > 0) ::munmap(memory_ + bytes_, behind);
  ::madvise(memory_, bytes_, MADV_HUGEPAGE);
  registered_ = uring_.register_buffer({memory_, bytes_});

  const size_t pages = bytes_ / kPageBytes;
  links_.resize(pages);
  free_order_.assign(pages, kUsed);
  for (size_t page = 0; page < pages; page += kBlockBytesMax / kPageBytes)
    push(kOrders - 1, static_cast<uint32_t>(page));
  return true;
}

void BouncePool::push(uint32_t order, uint32_t page) {
  links_[page] = {heads_[order], kNone};
  if (heads_[order] != kNone) links_[heads_[order]].previous = page;
  heads_[order] = page;
  free_order_[page] = static_cast<uint8_t>(order);
}

void BouncePool::unlink(uint32_t order, uint32_t page) {
  const Links links = links_[page];
  if (links.next != kNone) links_[links.next].previous = links.previous;
  if (links.previous != kNone) links_[links.previous].next = links.next;
  if (heads_[order] == page) heads_[order] = links.next;
  free_order_[page] = kUsed;
}

std::span<std::byte> BouncePool::block(uint32_t order, uint32_t page) const {
  return {memory_ + size_t{page} * kPageBytes, size_t{kPageBytes} << order};
}

std::span<std::byte> BouncePool::allocate(size_t bytes) {
  RD_ASSERT(bytes >= 1 && bytes <= kBlockBytesMax);
  if (!memory_ && !set_up()) return {};
  const uint32_t order = order_of(bytes);
  std::span<std::byte> found;
  if (order == 0 && spare_count_ > 0)
    found = take_spare();
  else
    found = allocate_block(order);
  if (found.empty() && merge_spares()) found = allocate_block(order);
  used_pages_ += found.size() / kPageBytes;
  return found;
}

void BouncePool::release(std::span<std::byte> block) {
  const uint32_t order = order_of(block.size());
  const auto page = static_cast<uint32_t>((block.data() - memory_) / kPageBytes);
  RD_ASSERT(free_order_[page] == kUsed && page % (1u << order) == 0);
  used_pages_ -= size_t{1} << order;
  if (order > 0 || spare_count_ == kSparesMax) return release_block(order, page);
  free_order_[page] = kSpare;
  spares_[spare_count_++] = page;
}

std::span<std::byte> BouncePool::take_spare() {
  const uint32_t page = spares_[--spare_count_];
  free_order_[page] = kUsed;
  return block(0, page);
}

std::span<std::byte> BouncePool::allocate_block(uint32_t wanted) {
  uint32_t order = wanted;
  while (order < kOrders && heads_[order] == kNone) order++;
  if (order == kOrders) return {};
  const uint32_t page = heads_[order];
  unlink(order, page);
  while (order > wanted) {
    order--;
    push(order, page + (1u << order));
  }
  return block(wanted, page);
}

// A block that is whole again is one that can be had again.
void BouncePool::release_block(uint32_t order, uint32_t page) {
  for (; order + 1 < kOrders; order++) {
    const uint32_t buddy = page ^ (1u << order);
    if (free_order_[buddy] != order) break;
    unlink(order, buddy);
    page = std::min(page, buddy);
  }
  push(order, page);
}

// Whether there were any.
bool BouncePool::merge_spares() {
  const bool any = spare_count_ > 0;
  while (spare_count_ > 0) release_block(0, spares_[--spare_count_]);
  return any;
}

}  // namespace ringdisk
