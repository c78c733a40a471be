// SPDX-License-Identifier: Apache-2.0
#include "ring/ring_slot.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

#include "base/assert.h"

namespace ringdisk {

SegmentArena::SegmentArena(uint32_t slots) : slots_(slots) {
  void* memory = ::mmap(nullptr, slots_ * sizeof(IndirectSegments), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a queue's slots");
  memory_ = static_cast<IndirectSegments*>(memory);
}

SegmentArena::~SegmentArena() { ::munmap(memory_, slots_ * sizeof(IndirectSegments)); }

std::span<Segment> SegmentArena::segments(RingSlot& slot, uint32_t count) {
  RD_ASSERT(count <= kIndirectSegmentsMax);
  if (count <= kDirectSegmentsMax) return std::span(slot.request.segments).first(count);
  return std::span(memory_[slot.index]).first(count);
}

}  // namespace ringdisk
