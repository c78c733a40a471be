// SPDX-License-Identifier: Apache-2.0
#include "ring/slot.h"

#include <doctest/doctest.h>

#include <set>

namespace ringdisk {
namespace {

Journal in_memory(uint32_t slots) { return {"", Journal::Mode::create, slots, {}, 0}; }

TEST_CASE("slots: each is handed out once, until there are none") {
  Journal journal = in_memory(32);
  SlotPool pool(journal);
  std::set<Slot*> all;
  for (int i = 0; i < 32; i++) {
    Slot* slot = pool.allocate();
    REQUIRE(slot != nullptr);
    CHECK(all.insert(slot).second);
    CHECK(&pool[slot->index] == slot);
  }
  CHECK(pool.allocate() == nullptr);
  CHECK(pool.free_count() == 0);
  for (Slot* slot : all) pool.release(*slot);
  CHECK(pool.all_free());
  CHECK(pool.allocate() != nullptr);
}

TEST_CASE("slots: the most indirect requests share no memory") {
  Journal journal = in_memory(kRingEntriesMax);
  SlotPool pool(journal);
  Slot* first = pool.allocate();
  Slot* second = pool.allocate();
  for (const uint32_t count : {12u, kIndirectSegmentsMax}) {
    for (Slot* slot : {first, second}) {
      const auto mark = static_cast<uint32_t>(slot->index);
      for (Segment& segment : pool.segments(*slot, count)) segment.gref = mark;
    }
    for (Slot* slot : {first, second}) {
      CHECK(pool.segments(*slot, count).size() == count);
      for (const Segment& segment : pool.segments(*slot, count)) CHECK(segment.gref == slot->index);
    }
  }
}

TEST_CASE("slots: direct requests live in the slot itself") {
  Journal journal = in_memory(32);
  SlotPool pool(journal);
  Slot* slot = pool.allocate();
  CHECK(pool.segments(*slot, 11).data() == slot->request.segments.data());
  CHECK(pool.segments(*slot, 12).data() != slot->request.segments.data());
}

TEST_CASE("slot list: first in, first out; take() leaves it empty and usable") {
  Journal journal = in_memory(32);
  SlotPool pool(journal);
  SlotList list;
  CHECK(list.pop() == nullptr);
  Slot* slots[4];
  for (Slot*& slot : slots) list.push(*(slot = pool.allocate()));
  CHECK(list.front() == slots[0]);
  SlotList taken = list.take();
  CHECK(list.empty());
  list.push(*pool.allocate());
  CHECK(list.pop() != nullptr);
  CHECK(list.pop() == nullptr);
  for (Slot* slot : slots) CHECK(taken.pop() == slot);
  CHECK(taken.empty());
}

}  // namespace
}  // namespace ringdisk
