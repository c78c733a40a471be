// SPDX-License-Identifier: Apache-2.0
#include "request/slot.h"

#include <doctest/doctest.h>

#include <set>

namespace ringdisk {
namespace {

TEST_CASE("slots: each is handed out once, until there are none") {
  SlotPool<Slot> pool(32);
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

TEST_CASE("slots: one that is adopted is not handed out") {
  SlotPool<Slot> pool(2);
  Slot& adopted = pool.adopt(0);
  CHECK(adopted.index == 0);
  CHECK(pool.allocate() == &pool[1]);
  CHECK(pool.allocate() == nullptr);
  pool.release(adopted);
  CHECK(pool.allocate() == &adopted);
}

TEST_CASE("slot batch: all of them, in order, and then none") {
  SlotPool<Slot> pool(3);
  SlotBatch batch(3);
  for (int round = 0; round < 2; round++) {
    CHECK(batch.empty());
    for (uint32_t i = 0; i < 3; i++) batch.push(pool[i]);
    CHECK_FALSE(batch.empty());
    const std::span<Slot* const> taken = batch.take();
    CHECK(batch.empty());
    REQUIRE(taken.size() == 3);
    for (uint32_t i = 0; i < 3; i++) CHECK(taken[i] == &pool[i]);
  }
}

TEST_CASE("slot list: first in, first out; take() leaves it empty and usable") {
  SlotPool<Slot> pool(32);
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
