// SPDX-License-Identifier: Apache-2.0
#include "io/bounce_share.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

#include "base/assert.h"

namespace ringdisk {

BounceShare::BounceShare(BouncePool& pool) : pool_(pool) {
  void* memory = ::mmap(nullptr, BouncePool::kBlockBytesMax, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a queue's bounce reserve");
  reserve_ = static_cast<std::byte*>(memory);
}

BounceShare::~BounceShare() {
  RD_ASSERT(used_bytes_ == 0);
  ::munmap(reserve_, BouncePool::kBlockBytesMax);
}

BounceShare::Block BounceShare::allocate(size_t bytes) {
  if (used_bytes_ + 2 * bytes <= pool_.free_bytes()) {  // after it: no more than is left free
    if (const std::span<std::byte> memory = pool_.allocate(bytes); !memory.empty()) {
      used_bytes_ += memory.size();
      return {memory, pool_.registered()};
    }
  }
  if (reserve_used_) return {};
  reserve_used_ = reserve_touched_ = true;
  used_bytes_ += BouncePool::kBlockBytesMax;
  return {{reserve_, BouncePool::kBlockBytesMax}, false};
}

void BounceShare::give_reserve_back() {
  if (!reserve_touched_ || reserve_used_) return;
  reserve_touched_ = false;
  ::madvise(reserve_, BouncePool::kBlockBytesMax, MADV_DONTNEED);
}

void BounceShare::release(const Block& block) {
  used_bytes_ -= block.memory.size();
  if (owns_reserve(block))
    reserve_used_ = false;
  else
    pool_.release(block.memory);
}

}  // namespace ringdisk
