// SPDX-License-Identifier: Apache-2.0
// In which order requests may reach the target, and what becomes of those that must wait.
#include <doctest/doctest.h>

#include <algorithm>

#include "queue_rig.h"
#include "ring/queue.h"

namespace ringdisk {
namespace {

using Kind = Operation::Kind;

std::vector<Kind> kinds(const std::vector<ScriptedTarget::Held>& held) {
  std::vector<Kind> all;
  for (const auto& one : held) all.push_back(one.kind);
  return all;
}

TEST_CASE("order: a target that is done at once never leaves a waiting request behind") {
  if (!has_io_uring()) return;
  QueueSettings settings;
  settings.poll_budget_us = 0;  // sleeps as soon as it thinks it may
  // Barriers of one to five steps, one step per round of the reactor.
  for (const uint32_t io_alignment : {kSectorBytes, 4096u}) {
    OneQueue one(settings, io_alignment);
    GuestPage page(*one.guest);
    for (int round = 0; round < 20; round++) {
      for (uint64_t i = 0; i < 8; i++) {
        const uint8_t last = i % 2 == 0 ? 7 : 0;
        one.frontend.put(raw_data(wire::kWriteBarrier, i * 8, {page.segment(0, last)}));
        one.frontend.put(raw_data(wire::kWrite, i * 8, {page.segment()}));
        one.frontend.put({.operation = wire::kWriteBarrier});
      }
      one.frontend.publish();
      for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
    }
  }
}

TEST_CASE("order: a barrier drains, flushes, writes, flushes, and holds what follows") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.put(raw_data(wire::kRead, 8, {page.segment()}));
  const uint64_t barrier = one.frontend.put(raw_data(wire::kWriteBarrier, 16, {page.segment()}));
  const uint64_t after = one.frontend.put(raw_data(wire::kRead, 24, {page.segment()}));
  one.frontend.publish();

  auto held = one.target->await_held(2);
  one.settle();
  CHECK(one.target->held_count() == 2);  // the barrier waits for both
  one.finish(held[1]);
  one.settle();
  CHECK(one.target->held_count() == 1);
  one.finish(held[0]);
  one.frontend.answer();
  one.frontend.answer();

  for (const Kind expected : {Kind::flush, Kind::write, Kind::flush}) {
    held = one.target->await_held(1);
    one.settle();
    CHECK(kinds(one.target->await_held(1)) == std::vector{expected});
    CHECK_FALSE(one.frontend.has_answers());
    if (expected == Kind::write) CHECK(held[0].offset == 16 * 512);
    one.finish(held[0]);
  }
  CHECK(one.frontend.answer().id == barrier);
  held = one.target->await_held(1);
  CHECK(held[0].offset == 24 * 512);
  one.finish(held[0]);
  CHECK(one.frontend.answer().id == after);
}

TEST_CASE("order: a barrier whose write fails is an error and the ring goes on") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.send(raw_data(wire::kWriteBarrier, 0, {page.segment()}));
  one.finish(one.target->await_held(1)[0]);
  one.settle();
  one.finish(one.target->await_held(1)[0], -EIO);
  CHECK(one.frontend.answer().status == wire::kError);
  one.target->hold(false);
  CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
}

TEST_CASE("order: an empty barrier is a flush that waits for what came before") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.put({.operation = wire::kWriteBarrier});
  one.frontend.publish();
  auto held = one.target->await_held(1);
  one.settle();
  CHECK(kinds(one.target->await_held(1)) == std::vector{Kind::write});
  one.finish(held[0]);
  one.frontend.answer();
  held = one.target->await_held(1);
  CHECK(held[0].kind == Kind::flush);
  one.finish(held[0]);
  CHECK(one.frontend.answer().status == wire::kOkay);
}

TEST_CASE("order: a flush holds nobody up") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.put(raw_flush());
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.publish();
  const auto held = one.target->await_held(2);
  one.finish(held[1]);
  CHECK(one.frontend.answer().operation == wire::kWrite);
  one.finish(held[0]);
  CHECK(one.frontend.answer().operation == wire::kFlushDiskcache);
}

TEST_CASE("order: writes and discards of the same sectors never run together") {
  if (!has_io_uring()) return;
  for (const bool discard_first : {true, false}) {
    OneQueue one;
    GuestPage page(*one.guest);
    one.target->hold(true);
    const RawRequest discard = raw_discard(8, 16);
    const RawRequest write = raw_data(wire::kWrite, 23, {page.segment()});  // one sector in common
    one.frontend.put(discard_first ? discard : write);
    one.frontend.put(raw_data(wire::kWrite, 100, {page.segment()}));  // elsewhere
    one.frontend.put(raw_data(wire::kRead, 8, {page.segment()}));     // reads may race
    one.frontend.put(discard_first ? write : discard);
    one.frontend.put(raw_data(wire::kWrite, 200, {page.segment()}));  // keeps its place
    one.frontend.publish();
    auto held = one.target->await_held(3);
    one.settle();
    CHECK(one.target->held_count() == 3);
    one.finish(held[0]);
    held = one.target->await_held(4);
    CHECK(held[2].kind == (discard_first ? Kind::write : Kind::discard));
    one.release_all();
    CHECK(one.frontend.all_answers().size() == 5);
  }
}

TEST_CASE("order: discards beside each other run together, overlapping ones do not") {
  if (!has_io_uring()) return;
  OneQueue one;
  one.target->hold(true);
  one.frontend.put(raw_discard(0, 8));
  one.frontend.put(raw_discard(8, 8));
  one.frontend.put(raw_discard(15, 1));
  one.frontend.publish();
  one.target->await_held(2);
  one.settle();
  CHECK(one.target->held_count() == 2);
  one.release_all();
  CHECK(one.frontend.all_answers().size() == 3);
}

constexpr uint32_t kBigBlock = 4096;

TEST_CASE("4096-byte medium: a write of one sector leaves the rest of its block alone") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants :
       {GrantStrategy::copy, GrantStrategy::map, GrantStrategy::persistent}) {
    QueueSettings settings;
    settings.grants = grants;
    OneQueue one(settings, kBigBlock);
    one.target->fill(0xaa);
    GuestPage page(*one.guest);
    page.fill(0xbb);
    const RawRequest write = raw_data(wire::kWrite, 15, {page.segment(2, 3)});  // across two blocks
    CHECK(one.frontend.ask(write) == wire::kOkay);
    for (size_t i = 0; i < 32 * 512; i++)
      REQUIRE(one.target->at(i) ==
              (i / 512 == 15 || i / 512 == 16 ? std::byte{0xbb} : std::byte{0xaa}));
    CHECK(one.queue->counters().read_modify_writes.get() == 1);
    CHECK(one.frontend.ask(raw_data(wire::kRead, 15, {page.segment(0, 7)})) == wire::kOkay);
    CHECK(page.is_filled(0xbb, 0, 1024));
    CHECK(page.is_filled(0xaa, 1024));
    // The last sector of the disk, and a barrier, go the same way.
    page.fill(0xcc);
    CHECK(one.frontend.ask(raw_data(wire::kWriteBarrier, OneQueue::kDiskSectors - 1,
                                    {page.segment(7, 7)})) == wire::kOkay);
    CHECK(one.target->at(OneQueue::kDiskBytes - 512) == std::byte{0xcc});
    CHECK(one.target->at(OneQueue::kDiskBytes - 513) == std::byte{0xaa});
  }
}

TEST_CASE("4096-byte medium: read-modify-write never runs beside a write of the same block") {
  if (!has_io_uring()) return;
  OneQueue one({}, kBigBlock);
  GuestPage first(*one.guest);
  GuestPage second(*one.guest);
  GuestPage whole(*one.guest);
  first.fill(1);
  second.fill(2);
  whole.fill(3);
  one.target->hold(true);
  one.frontend.put(raw_data(wire::kWrite, 0, {first.segment(0, 0)}));
  one.frontend.put(raw_data(wire::kWrite, 8, {whole.segment()}));       // another block
  one.frontend.put(raw_data(wire::kWrite, 1, {second.segment(0, 0)}));  // the same one
  one.frontend.publish();
  auto held = one.target->await_held(2);
  one.settle();
  CHECK(kinds(one.target->await_held(2)) == std::vector{Kind::read, Kind::write});
  one.finish(held[0]);  // the old data
  held = one.target->await_held(2);
  CHECK(kinds(held) == std::vector{Kind::write, Kind::write});
  one.settle();
  CHECK(one.target->held_count() == 2);
  one.release_all();
  CHECK(one.frontend.all_answers().size() == 3);
  CHECK(one.target->at(0) == std::byte{1});
  CHECK(one.target->at(512) == std::byte{2});
  CHECK(one.target->at(1024) == std::byte{0});
}

TEST_CASE("4096-byte medium: many small writes of few blocks, finished in any order, all survive") {
  if (!has_io_uring()) return;
  OneQueue one({}, kBigBlock);
  std::vector<GuestPage> pages;
  for (int i = 0; i < 32; i++) pages.emplace_back(*one.guest);
  one.target->hold(true);
  for (int round = 0; round < 20; round++) {
    // 32 sectors, each of its own value, in an order of their own.
    for (uint64_t i = 0; i < 32; i++) {
      pages[i].fill(static_cast<int>(i) + round * 3);
      one.frontend.put(raw_data(wire::kWrite, i * 13 % 32, {pages[i].segment(5, 5)}));
    }
    one.frontend.publish();
    while (one.frontend.unanswered() > 0) {
      one.settle();
      const auto held = one.target->await_held(0);
      if (!held.empty()) one.finish(held[static_cast<size_t>(round) % held.size()]);
      while (one.frontend.has_answers()) CHECK(one.frontend.answer().status == wire::kOkay);
    }
    for (uint64_t i = 0; i < 32; i++)
      REQUIRE(one.target->at(i * 13 % 32 * 512) ==
              static_cast<std::byte>(static_cast<int>(i) + round * 3));
  }
}

TEST_CASE("4096-byte medium: a secure discard of less than whole blocks is an error") {
  if (!has_io_uring()) return;
  QueueSettings settings;
  settings.geometry.secure_discard = true;
  OneQueue one(settings, 4096);
  one.target->fill(0x77);
  CHECK(one.frontend.ask(raw_discard(1, 23, wire::kDiscardSecure)) == wire::kError);
  CHECK(one.target->at(8 * 512) == std::byte{0x77});
  CHECK(one.frontend.ask(raw_discard(8, 16, wire::kDiscardSecure)) == wire::kOkay);
  CHECK(one.target->at(8 * 512) == std::byte{0});
}

TEST_CASE("4096-byte medium: a discard gives back whole blocks only") {
  if (!has_io_uring()) return;
  OneQueue one({}, kBigBlock);
  one.target->fill(0xaa);
  CHECK(one.frontend.ask(raw_discard(9, 6)) == wire::kOkay);  // inside one block: nothing
  CHECK(one.target->at(9 * 512) == std::byte{0xaa});
  CHECK(one.frontend.ask(raw_discard(7, 18)) == wire::kOkay);
  for (size_t sector = 0; sector < 32; sector++)
    CHECK(one.target->at(sector * 512) ==
          (sector >= 8 && sector < 24 ? std::byte{0} : std::byte{0xaa}));
}

TEST_CASE("order: what one queue rewrites of a block is not undone by what another one does") {
  if (!has_io_uring()) return;
  OneQueue one({}, 4096);
  RawFrontend second_frontend(*one.guest, 1);
  const auto second = one.rig.connect(*one.guest, second_frontend, one.target);
  GuestPage page(*one.guest);
  page.fill(0x11);
  one.target->hold(true);
  // Three sectors of one block, the last two by one queue; and a whole block beside it.
  one.frontend.send(raw_data(wire::kWrite, 0, {page.segment(0, 0)}));
  auto held = one.target->await_held(1);
  CHECK(kinds(held) == std::vector{Kind::read});
  second_frontend.put(raw_data(wire::kWrite, 1, {page.segment(0, 0)}));
  second_frontend.put(raw_data(wire::kWrite, 2, {page.segment(0, 0)}));
  second_frontend.publish();
  one.frontend.send(raw_data(wire::kWrite, 8, {page.segment()}));
  one.settle();
  CHECK(one.target->held_count() == 2);
  one.release_all();
  for (int i = 0; i < 2; i++) CHECK(one.frontend.answer().status == wire::kOkay);
  for (int i = 0; i < 2; i++) CHECK(second_frontend.answer().status == wire::kOkay);
  second->close();
  for (const uint64_t sector : {0, 1, 2}) CHECK(one.target->at(sector * 512) == std::byte{0x11});
}

}  // namespace
}  // namespace ringdisk
