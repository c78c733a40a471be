// SPDX-License-Identifier: Apache-2.0
// Devices that fail: who is told, who waits, and what goes on meanwhile.
#include <doctest/doctest.h>

#include <cerrno>

#include "queue_rig.h"
#include "ring/queue.h"

namespace ringdisk {
namespace {

using Kind = Operation::Kind;

QueueSettings stopping(GrantStrategy grants = GrantStrategy::copy) {
  QueueSettings settings;
  settings.on_error = OnError::stop;
  settings.grants = grants;
  return settings;
}

TEST_CASE("report: the guest is told of exactly the requests that failed") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->fail(Kind::write, 2, ENOSPC);
  CHECK(one.frontend.ask(raw_data(wire::kWrite, 0, {page.segment()})) == wire::kError);
  CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
  CHECK(one.frontend.ask(raw_data(wire::kWrite, 8, {page.segment()})) == wire::kError);
  CHECK(one.frontend.ask(raw_data(wire::kWrite, 8, {page.segment()})) == wire::kOkay);
  CHECK(one.queue->counters().io_errors.get() == 2);
  CHECK(one.queue->counters().retries.get() == 0);
  CHECK(one.queue->failing_count == 0);
}

TEST_CASE("stop: what fails waits with its data, is tried again, and no error is seen") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants :
       {GrantStrategy::copy, GrantStrategy::map, GrantStrategy::persistent}) {
    OneQueue one(stopping(grants));
    GuestPage page(*one.guest);
    page.fill(0x77);
    one.target->fail(Kind::write, 2, EIO);
    const uint64_t write = one.frontend.send(raw_data(wire::kWrite, 0, {page.segment()}));
    REQUIRE(eventually([&] { return one.queue->failing_count == 1; }));
    GuestPage other(*one.guest);
    CHECK(one.frontend.ask(raw_data(wire::kRead, 80, {other.segment()})) == wire::kOkay);
    const RawResponse response = one.frontend.answer();
    CHECK(response.id == write);
    CHECK(response.status == wire::kOkay);
    CHECK(one.target->at(4095) == std::byte{0x77});
    CHECK(one.queue->counters().retries.get() == 2);
    CHECK(one.queue->counters().io_errors.get() == 0);
    CHECK(one.queue->failing_count == 1);
    CHECK(one.queue->recovered_count == 1);
    // News again.
    one.target->fail(Kind::read, 1, EIO);
    CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
    CHECK(one.queue->failing_count == 2);
    CHECK(one.queue->recovered_count == 2);
  }
}

TEST_CASE("stop: a full ring that fails is tried again together, and told of once") {
  if (!has_io_uring()) return;
  OneQueue one(stopping());
  GuestPage page(*one.guest);
  page.fill(0x12);
  one.target->fail(Kind::write, 40, ENOSPC);
  constexpr std::chrono::seconds kWithoutGrowth{5};
  const auto started = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < 32; i++)
    one.frontend.put(raw_data(wire::kWrite, i * 8, {page.segment()}));
  one.frontend.publish();
  for (const auto& [id, status] : one.frontend.all_answers()) CHECK(status == wire::kOkay);
  // 32 fail, 8 of them once more: two waits of 0.1 and 0.2 s, not one for each, up to 5 s.
  CHECK(std::chrono::steady_clock::now() - started < kWithoutGrowth);
  CHECK(one.queue->counters().retries.get() == 40);
  CHECK(one.queue->failing_count == 1);
  CHECK(one.queue->recovered_count == 1);
}

TEST_CASE("stop: what the guest or the operation is to blame for is answered") {
  if (!has_io_uring()) return;
  OneQueue one(stopping());
  GuestPage revoked(*one.guest);
  REQUIRE(one.guest->revoke(revoked.gref));
  CHECK(one.frontend.ask(raw_data(wire::kWrite, 0, {revoked.segment()})) == wire::kError);
  CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {revoked.segment()})) == wire::kError);
  CHECK(one.frontend.ask(raw_discard(OneQueue::kDiskSectors, 8)) == wire::kError);
  one.target->fail(Kind::discard, 1, EOPNOTSUPP);
  CHECK(one.frontend.ask(raw_discard(0, 8)) == wire::kNotSupported);
  CHECK(one.queue->counters().retries.get() == 0);
  // A hint: some ranges no device ever takes, and the guest must not wait for that.
  one.target->fail(Kind::discard, 1, EIO);
  CHECK(one.frontend.ask(raw_discard(0, 8)) == wire::kError);
  CHECK(one.queue->counters().retries.get() == 0);
}

TEST_CASE("stop: a request that waits keeps its place in the order") {
  if (!has_io_uring()) return;
  OneQueue one(stopping());
  GuestPage page(*one.guest);
  page.fill(0x55);
  one.target->fail(Kind::write, 2, EIO);
  const uint64_t write = one.frontend.put(raw_data(wire::kWrite, 8, {page.segment()}));
  const uint64_t discard = one.frontend.put(raw_discard(8, 8));
  const uint64_t barrier = one.frontend.put(raw_data(wire::kWriteBarrier, 100, {page.segment()}));
  const uint64_t after = one.frontend.put(raw_data(wire::kRead, 0, {page.segment()}));
  one.frontend.publish();
  REQUIRE(eventually([&] { return one.queue->counters().retries.get() == 1; }));
  one.settle();
  CHECK_FALSE(one.frontend.has_answers());
  for (const uint64_t expected : {write, discard, barrier, after}) {
    const RawResponse response = one.frontend.answer();
    CHECK(response.id == expected);
    CHECK(response.status == wire::kOkay);
  }
  CHECK(one.target->at(8 * 512) == std::byte{0});
}

TEST_CASE("stop: every step of a barrier and of a read-modify-write is tried again") {
  if (!has_io_uring()) return;
  OneQueue one(stopping(), 4096);
  GuestPage page(*one.guest);
  page.fill(0x66);
  one.target->fill(0x11);
  one.target->hold(true);
  const uint64_t id = one.frontend.send(raw_data(wire::kWriteBarrier, 3, {page.segment(0, 1)}));
  for (const Kind expected : {Kind::flush, Kind::read, Kind::write, Kind::flush}) {
    for (const int32_t result : {-EIO, 0}) {
      const auto held = one.target->await_held(1);
      CHECK(held[0].kind == expected);
      one.finish(held[0], result);
    }
  }
  const RawResponse response = one.frontend.answer();
  CHECK(response.id == id);
  CHECK(response.status == wire::kOkay);
  CHECK(one.target->at(3 * 512 - 1) == std::byte{0x11});
  CHECK(one.target->at(3 * 512) == std::byte{0x66});
  CHECK(one.target->at(5 * 512) == std::byte{0x11});
  CHECK(one.queue->counters().retries.get() == 4);
  CHECK(one.queue->recovered_count == 1);
}

TEST_CASE("stop: a close answers what waits for the device, so that the disk can go") {
  if (!has_io_uring()) return;
  OneQueue one(stopping());
  GuestPage page(*one.guest);
  one.target->fail(Kind::write, 1'000'000, EIO);
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.put(raw_data(wire::kWriteBarrier, 8, {page.segment()}));
  one.frontend.put(raw_data(wire::kWrite, 16, {page.segment()}));
  one.frontend.publish();
  REQUIRE(eventually([&] { return one.queue->counters().retries.get() >= 1; }));
  one.queue->close();
  CHECK(one.queue->drained());
  for (const auto& [id, status] : one.frontend.all_answers()) CHECK(status == wire::kError);
  CHECK(one.queue->counters().io_errors.get() == 3);
  CHECK(one.queue->recovered_count == 0);
}

TEST_CASE("stop: what fails while a close is under way is answered") {
  if (!has_io_uring()) return;
  OneQueue one(stopping());
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.send(raw_data(wire::kRead, 0, {page.segment()}));
  const auto held = one.target->await_held(1);
  one.queue->begin_close();
  one.finish(held[0], -EIO);
  one.queue->close();
  CHECK(one.queue->drained());
  CHECK(one.frontend.answer().status == wire::kError);
}

TEST_CASE("flush: a failure is tried again, told once, and never an error for the guest") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->fail(Kind::flush, 2, EIO);
  const uint64_t flush = one.frontend.put(raw_flush());
  one.frontend.publish();
  REQUIRE(eventually([&] { return one.queue->failing_count == 1; }));
  // Everything else goes on meanwhile.
  const uint64_t read = one.frontend.send(raw_data(wire::kRead, 0, {page.segment()}));
  CHECK(one.frontend.answer().id == read);
  const RawResponse response = one.frontend.answer();
  CHECK(response.id == flush);
  CHECK(response.status == wire::kOkay);
  CHECK(one.queue->counters().retries.get() == 2);
  CHECK(one.queue->failing_count == 1);
  CHECK(one.queue->recovered_count == 1);
  // It worked meanwhile, so the next failure is news again.
  one.target->fail(Kind::flush, 1, ENOSPC);
  CHECK(one.frontend.ask(raw_flush()) == wire::kOkay);
  CHECK(one.queue->failing_count == 2);
}

TEST_CASE("flush: a barrier whose flush fails waits, and holds what follows") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->fail(Kind::flush, 1, EIO);
  const uint64_t barrier = one.frontend.put(raw_data(wire::kWriteBarrier, 0, {page.segment()}));
  const uint64_t after = one.frontend.put(raw_data(wire::kRead, 0, {page.segment()}));
  one.frontend.publish();
  REQUIRE(eventually([&] { return one.queue->counters().retries.get() == 1; }));
  one.settle();
  CHECK_FALSE(one.frontend.has_answers());
  CHECK(one.frontend.answer().id == barrier);
  CHECK(one.frontend.answer().id == after);
}

TEST_CASE("close: a flush that keeps failing is answered with its error, so that the disk can go") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->fail(Kind::flush, 1'000'000, EIO);
  one.frontend.put(raw_flush());
  one.frontend.put(raw_data(wire::kWriteBarrier, 0, {page.segment()}));
  one.frontend.publish();
  REQUIRE(eventually([&] { return one.queue->counters().retries.get() >= 1; }));
  one.queue->close();
  CHECK(one.queue->drained());
  CHECK(one.frontend.answer().status == wire::kError);
  CHECK(one.frontend.answer().status == wire::kError);
}

TEST_CASE("close: a flush that fails during the close is answered with its error") {
  if (!has_io_uring()) return;
  OneQueue one;
  one.target->hold(true);
  one.frontend.send(raw_flush());
  const auto held = one.target->await_held(1);
  one.queue->begin_close();
  one.finish(held[0], -EIO);
  one.queue->close();
  CHECK(one.queue->drained());
  CHECK(one.frontend.answer().status == wire::kError);
}

}  // namespace
}  // namespace ringdisk
