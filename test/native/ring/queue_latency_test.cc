// SPDX-License-Identifier: Apache-2.0
// What a queue notes about its requests: how long each took, and how many came and went together.
#include <doctest/doctest.h>

#include <thread>

#include "queue_rig.h"

namespace ringdisk {
namespace {

using Kind = ValidRequest::Kind;
constexpr auto kHeld = std::chrono::milliseconds(20);
constexpr double kHeldUs = 20'000;

const LatencyHistogram& latency(OneQueue& one, Kind kind) {
  return one.queue->counters().latency[static_cast<size_t>(kind)];
}

TEST_CASE("latency: each operation has its own, until the answer is shown") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.send(raw_data(wire::kRead, 0, {page.segment()}));
  one.target->await_held(1);
  std::this_thread::sleep_for(kHeld);
  one.release_all();
  one.frontend.answer();
  one.frontend.ask(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.ask(raw_data(wire::kWrite, 8, {page.segment()}));
  one.frontend.ask(raw_data(wire::kWriteBarrier, 0, {page.segment()}));
  one.frontend.ask(raw_flush());
  one.frontend.ask(raw_discard(0, 8));
  one.settle();
  CHECK(latency(one, Kind::read).count() == 1);
  CHECK(latency(one, Kind::read).min_us() >= kHeldUs);
  CHECK(latency(one, Kind::read).sum_us() >= kHeldUs);
  CHECK(latency(one, Kind::write).count() == 2);
  CHECK(latency(one, Kind::barrier).count() == 1);
  CHECK(latency(one, Kind::flush).count() == 1);
  CHECK(latency(one, Kind::discard).count() == 1);
}

TEST_CASE("latency: a request that waits in the ring for its turn has been seen") {
  if (!has_io_uring()) return;
  OneQueue one({}, kSectorBytes, 2);
  GuestPage page(*one.guest);
  for (uint32_t i = 1; i < kTakeBatch; i++)
    one.frontend.put(raw_data(wire::kRead, i, {page.segment()}));
  // The last of its batch: nothing more is taken for a while.
  one.frontend.put(raw_data(wire::kRead, OneQueue::kDiskSectors, {page.segment()}));
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  run_on(one.rig.reactor, [&] { one.frontend.publish(); });
  one.frontend.all_answers();
  one.settle();
  CHECK(latency(one, Kind::write).min_us() >= kRejectPenaltyUs);
}

TEST_CASE("latency: indices that wrap, and rings that start anywhere") {
  if (!has_io_uring()) return;
  for (const uint32_t start : {0x7ffffff0u, 0xfffffff0u}) {
    OneQueue one({}, kSectorBytes, 1, start);
    GuestPage page(*one.guest);
    for (uint64_t i = 0; i < 100; i++)
      one.frontend.ask(raw_data(wire::kRead, i * 8, {page.segment()}));
    one.settle();
    CHECK(latency(one, Kind::read).count() == 100);
    CHECK(latency(one, Kind::read).max_us() < 10e6);
  }
}

TEST_CASE("latency: rejected requests are not in it") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.frontend.ask(raw_data(wire::kRead, OneQueue::kDiskSectors, {page.segment()}));
  one.settle();
  for (const LatencyHistogram& histogram : one.queue->counters().latency)
    CHECK(histogram.count() == 0);
}

TEST_CASE("batches: what a poll takes and a publish shows") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  for (uint64_t i = 0; i < 8; i++) one.frontend.put(raw_data(wire::kRead, i, {page.segment()}));
  run_on(one.rig.reactor, [&] { one.frontend.publish(); });
  one.target->await_held(8);
  one.release_all();
  one.frontend.all_answers();
  one.settle();
  const QueueCounters& counters = one.queue->counters();
  CHECK(counters.taken.get() == 8);
  CHECK(counters.take_batches.get() == 1);
  CHECK(counters.answered.get() == 8);
  CHECK(counters.batches.get() <= 8);
}

}  // namespace
}  // namespace ringdisk
