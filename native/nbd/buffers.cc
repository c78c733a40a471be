// SPDX-License-Identifier: Apache-2.0
#include "nbd/buffers.h"

#include <sys/mman.h>

#include <new>

namespace ringdisk::nbd {

LazyMemory::LazyMemory(size_t bytes) : size_(bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(memory);
}

LazyMemory::~LazyMemory() { munmap(data_, size_); }

void LazyMemory::give_back() { madvise(data_, size_, MADV_DONTNEED); }

}  // namespace ringdisk::nbd
