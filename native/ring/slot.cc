// SPDX-License-Identifier: Apache-2.0
#include "ring/slot.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

#include "base/assert.h"

namespace ringdisk {

SlotPool::SlotPool(Journal& journal) : slots_(journal.slots()), journal_(journal) {
  const uint32_t count = journal.slots();
  void* memory = ::mmap(nullptr, count * sizeof(IndirectSegments), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a queue's slots");
  arena_ = static_cast<IndirectSegments*>(memory);
  free_.reserve(count);
  for (uint32_t i = count; i-- > 0;) {
    slots_[i].index = static_cast<uint16_t>(i);
    free_.push_back(&slots_[i]);
  }
}

SlotPool::~SlotPool() { ::munmap(arena_, slots_.size() * sizeof(IndirectSegments)); }

Slot* SlotPool::allocate() {
  if (free_.empty()) return nullptr;
  Slot* slot = free_.back();
  free_.pop_back();
  return slot;
}

Slot& SlotPool::adopt(uint32_t index) {
  Slot& slot = slots_[index];
  std::erase(free_, &slot);
  return slot;
}

std::span<Segment> SlotPool::segments(Slot& slot, uint32_t count) {
  RD_ASSERT(count <= kIndirectSegmentsMax);
  if (count <= kDirectSegmentsMax) return std::span(slot.request.segments).first(count);
  return std::span(arena_[slot.index]).first(count);
}

}  // namespace ringdisk
