// SPDX-License-Identifier: Apache-2.0
#include "ring/ring_slot.h"

#include <doctest/doctest.h>

namespace ringdisk {
namespace {

TEST_CASE("ring slots: the most indirect requests share no memory") {
  SlotPool<RingSlot> pool(kRingEntriesMax);
  SegmentArena arena(kRingEntriesMax);
  RingSlot* first = pool.allocate();
  RingSlot* second = pool.allocate();
  for (const uint32_t count : {12u, kIndirectSegmentsMax}) {
    for (RingSlot* slot : {first, second}) {
      const auto mark = static_cast<uint32_t>(slot->index);
      for (Segment& segment : arena.segments(*slot, count)) segment.gref = mark;
    }
    for (RingSlot* slot : {first, second}) {
      CHECK(arena.segments(*slot, count).size() == count);
      for (const Segment& segment : arena.segments(*slot, count))
        CHECK(segment.gref == slot->index);
    }
  }
}

TEST_CASE("ring slots: direct requests live in the slot itself") {
  SlotPool<RingSlot> pool(32);
  SegmentArena arena(32);
  RingSlot* slot = pool.allocate();
  CHECK(arena.segments(*slot, 11).data() == slot->request.segments.data());
  CHECK(arena.segments(*slot, 12).data() != slot->request.segments.data());
}

}  // namespace
}  // namespace ringdisk
