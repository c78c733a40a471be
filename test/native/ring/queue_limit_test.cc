// SPDX-License-Identifier: Apache-2.0
// A limited queue: what waits for tokens holds up nothing else, and can be let go of at any moment.
#include <doctest/doctest.h>

#include <cerrno>
#include <thread>

#include "queue_rig.h"
#include "watching_filter.h"

namespace ringdisk {
namespace {

std::shared_ptr<Limits> limits_of(const LimitRates& rates) {
  auto limits = std::make_shared<Limits>();
  limits->set(rates, clock_ns());
  return limits;
}

// One operation in a quarter of an hour, after the first: who waits for a token waits for ever.
const LimitRates kNearlyNone{.bytes = {.both = 4}};

struct Fixture {
  std::shared_ptr<Limits> limits;
  OneQueue one;
  GuestPage page{*one.guest};

  explicit Fixture(const LimitRates& rates = kNearlyNone, uint32_t ring_pages = 1)
      : limits(limits_of(rates)), one({.limits = limits}, kSectorBytes, ring_pages) {}
  uint64_t put(uint8_t operation) {
    return one.frontend.put(raw_data(operation, 0, {page.segment()}));
  }
  // The first goes, and what follows waits.
  void spend() {
    CHECK(one.frontend.ask(raw_data(wire::kWrite, 0, {page.segment()})) == wire::kOkay);
  }
  uint64_t waiting() const { return one.queue->counters().waiting_for_tokens.get(); }
  void await_waiting(uint64_t count) {
    REQUIRE(eventually([&] { return waiting() == count; }));
  }
};

TEST_CASE("queue limit: what has no token waits, without memory, in the journal's care") {
  if (!has_io_uring()) return;
  Fixture f;
  f.spend();
  for (int i = 0; i < 3; i++) f.put(wire::kWrite);
  f.one.frontend.publish();
  f.await_waiting(3);
  f.one.settle();
  CHECK(f.one.queue->counters().taken.get() == 4);
  CHECK(f.one.queue->counters().bounce_bytes.get() == 0);
  CHECK(f.one.queue->counters().in_flight.get() == 0);
  CHECK_FALSE(f.one.frontend.has_answers());
}

TEST_CASE("queue limit: a flush goes by a full ring of writes that wait") {
  if (!has_io_uring()) return;
  Fixture f(kNearlyNone, kRingPagesMax);
  f.spend();
  while (f.one.frontend.unanswered() < kRingEntriesMax - 1) f.put(wire::kWrite);
  const uint64_t flush = f.one.frontend.put(raw_flush());
  f.one.frontend.publish();
  const RawResponse answer = f.one.frontend.answer();
  CHECK(answer.id == flush);
  CHECK(answer.status == wire::kOkay);
  f.await_waiting(kRingEntriesMax - 1);
}

TEST_CASE("queue limit: a close waits for no token, and what has none is answered") {
  if (!has_io_uring()) return;
  Fixture f;
  f.spend();
  f.page.fill(0x77);
  for (int i = 0; i < 30; i++) f.put(i % 3 == 0 ? wire::kRead : wire::kWrite);
  f.put(wire::kWriteBarrier);
  f.one.frontend.publish();
  f.await_waiting(31);
  f.one.queue->close();
  CHECK(f.one.queue->drained());
  for (const auto& [id, status] : f.one.frontend.all_answers()) CHECK(status == wire::kError);
  CHECK(f.one.target->at(0) != std::byte{0x77});
  CHECK(f.waiting() == 0);
}

TEST_CASE("queue limit: a close carries out what has its tokens") {
  if (!has_io_uring()) return;
  Fixture f({.operations = {.both = 3}, .operations_burst = 3});
  f.one.target->hold(true);
  for (int i = 0; i < 5; i++) f.put(wire::kWrite);
  f.one.frontend.publish();
  f.one.target->await_held(3);
  f.await_waiting(2);
  f.one.queue->begin_close();
  f.one.release_all();
  f.one.queue->close();
  int good = 0;
  for (const auto& [id, status] : f.one.frontend.all_answers()) good += status == wire::kOkay;
  CHECK(good >= 3);
}

TEST_CASE("queue limit: other limits, or none, hold at once for what waits") {
  if (!has_io_uring()) return;
  for (const bool none : {true, false}) {
    Fixture f;
    f.spend();
    const uint64_t read = f.put(wire::kRead);
    const uint64_t barrier = f.put(wire::kWriteBarrier);
    const uint64_t write = f.put(wire::kWrite);
    f.one.frontend.publish();
    f.await_waiting(3);
    run_on(f.one.rig.reactor, [&] {
      if (none) return f.one.queue->requests().limit(nullptr);
      f.limits->set({.bytes = {.both = 1u << 30}}, clock_ns());
      f.one.queue->requests().limits_changed();
    });
    for (const uint64_t id : {read, barrier, write}) CHECK(f.one.frontend.answer().id == id);
    CHECK(f.waiting() == 0);
  }
}

TEST_CASE("queue limit: limits for one that had none") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  const auto write = raw_data(wire::kWrite, 0, {page.segment()});
  CHECK(one.frontend.ask(write) == wire::kOkay);
  run_on(one.rig.reactor, [&] { one.queue->requests().limit(limits_of(kNearlyNone)); });
  CHECK(one.frontend.ask(write) == wire::kOkay);
  one.frontend.send(write);
  REQUIRE(eventually([&] { return one.queue->counters().waiting_for_tokens.get() == 1; }));
  one.queue->close();
}

TEST_CASE("queue limit: the stack is exchanged while requests wait for tokens") {
  if (!has_io_uring()) return;
  Watched watched;
  Fixture f;
  f.spend();
  const uint64_t waits = f.put(wire::kRead);
  f.one.frontend.publish();
  f.await_waiting(1);
  std::atomic<int> ready{-1};
  run_on(f.one.rig.reactor, [&] {
    f.one.queue->requests().prepare(put_watching(1, watched), [&](int error) { ready = error; });
  });
  CHECK(ready == 0);
  run_on(f.one.rig.reactor, [&] {
    f.one.queue->requests().commit();
    f.one.queue->requests().limit(nullptr);
  });
  CHECK(f.one.frontend.answer().id == waits);
  CHECK(watched.started == 1);
}

TEST_CASE("queue limit: a reactor sleeps while requests wait, and wakes once when they may go") {
  if (!has_io_uring()) return;
  Fixture f({.operations = {.both = 2}, .operations_burst = 1});
  f.spend();
  const uint64_t waits = f.put(wire::kRead);
  f.one.frontend.publish();
  f.await_waiting(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const ReactorCounters& reactor = f.one.rig.reactor.counters();
  const uint64_t before = reactor.wakeups.get();
  CHECK(f.one.frontend.answer().id == waits);
  // One to start it, some for the answer and what looks out after it.
  CHECK(reactor.wakeups.get() - before <= 4);
  CHECK(f.one.queue->counters().waited_for_tokens.count() == 1);
  CHECK(f.one.queue->counters().waited_for_tokens.max_us() > 200'000);
}

TEST_CASE("queue limit: a neighbour on the same reactor is not held up") {
  if (!has_io_uring()) return;
  Fixture f;
  f.spend();
  while (f.one.frontend.unanswered() < 32) f.put(wire::kWrite);
  f.one.frontend.publish();
  f.await_waiting(32);
  const auto guest = f.one.rig.create_guest(2);
  RawFrontend frontend(*guest, 1);
  const auto queue = f.one.rig.connect(*guest, frontend, f.one.target);
  GuestPage page(*guest);
  for (int i = 0; i < 100; i++)
    CHECK(frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
}

}  // namespace
}  // namespace ringdisk
