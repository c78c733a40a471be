// SPDX-License-Identifier: Apache-2.0
// The request path on its good days: data, answers, batches.
#include "ring/queue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

#include "queue_rig.h"

namespace ringdisk {
namespace {

QueueSettings with(GrantStrategy grants, Abi abi = Abi::x86_64) {
  QueueSettings settings;
  settings.grants = grants;
  settings.abi = abi;
  return settings;
}

constexpr GrantStrategy kStrategies[] = {GrantStrategy::copy, GrantStrategy::map,
                                         GrantStrategy::persistent};

TEST_CASE("queue: reads back what was written, by every strategy and ABI") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies)
    for (const Abi abi : {Abi::x86_64, Abi::x86_32}) {
      OneQueue one(with(grants, abi));
      GuestPage source(*one.guest);
      GuestPage sink(*one.guest);
      source.fill(0x11);
      sink.fill(0x22);
      CHECK(one.frontend.ask(raw_data(wire::kWrite, 100, {source.segment()})) == wire::kOkay);
      CHECK(one.frontend.ask(raw_data(wire::kRead, 101, {sink.segment(3, 4)})) == wire::kOkay);
      CHECK(sink.is_filled(0x22, 0, 3 * 512));
      CHECK(sink.is_filled(0x11, 3 * 512, 5 * 512));
      CHECK(sink.is_filled(0x22, 5 * 512));
      CHECK(one.target->at(100 * 512 - 1) == std::byte{0});
      CHECK(one.target->at(108 * 512) == std::byte{0});
      CHECK(one.queue->counters().writes.get() == 1);
      CHECK(one.queue->counters().read_bytes.get() == 1024);
    }
}

TEST_CASE("queue: the largest indirect request, every grant different or all the same") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies) {
    OneQueue one(with(grants));
    GuestPage list(*one.guest);
    auto* segments = reinterpret_cast<xen_abi::Segment*>(list.data());
    std::vector<GuestPage> pages;
    for (int i = 0; i < 256; i++) {
      pages.emplace_back(*one.guest).fill(i);
      segments[i] = pages.back().segment();
    }
    CHECK(one.frontend.ask(raw_indirect(wire::kWrite, 8, 256, list.gref)) == wire::kOkay);
    for (int i = 0; i < 256; i++)
      CHECK(one.target->at(4096 + static_cast<size_t>(i) * 4096) == static_cast<std::byte>(i));
    for (int i = 0; i < 256; i++) segments[i] = pages[9].segment();
    CHECK(one.frontend.ask(raw_indirect(wire::kRead, 8, 256, list.gref)) == wire::kOkay);
    CHECK(one.queue->counters().indirect.get() == 2);
    CHECK(one.queue->counters().rejected.get() == 0);
  }
}

TEST_CASE("queue: answers come in the order of completion, once each") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 8; i++)
    ids.push_back(one.frontend.put(raw_data(wire::kRead, i * 8, {page.segment()})));
  one.frontend.publish();
  std::vector<ScriptedTarget::Held> held = one.target->await_held(8);
  for (const size_t which : {5u, 0u, 7u, 1u, 6u, 2u, 4u, 3u}) {
    one.finish(held[which], which == 6 ? -EIO : 0);
    const RawResponse response = one.frontend.answer();
    CHECK(response.id == ids[held[which].offset / kPageBytes]);
    CHECK(response.status == (which == 6 ? wire::kError : wire::kOkay));
  }
  CHECK_FALSE(one.frontend.has_answers());
  CHECK(one.queue->counters().io_errors.get() == 1);
}

TEST_CASE("queue: a ring may be full, over and over, across 2^32") {
  if (!has_io_uring()) return;
  for (const uint32_t start : {0u, UINT32_MAX - 100}) {
    OneQueue one({}, kSectorBytes, kRingPagesMax, start);
    GuestPage page(*one.guest);
    for (int round = 0; round < 4; round++) {
      for (uint32_t i = 0; i < one.frontend.entries(); i++)
        one.frontend.put(raw_data(wire::kWrite, i, {page.segment(0, 0)}));
      one.frontend.publish();
      for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
    }
    CHECK(one.queue->counters().writes.get() == 4 * 512);
    CHECK(one.queue->broken == 0);
  }
}

TEST_CASE("queue: what finishes together is published and notified once") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  for (uint64_t i = 0; i < 16; i++)
    one.frontend.put(raw_data(wire::kRead, i * 8, {page.segment()}));
  one.frontend.publish();
  const auto held = one.target->await_held(16);
  one.settle();
  while (one.frontend.notified(0));
  const uint64_t batches = one.queue->counters().batches.get();
  const uint64_t notifications = one.queue->counters().notifications_sent.get();
  // All in one command, so in one round of the reactor.
  run_on(one.rig.reactor, [&] {
    for (const auto& one_held : held) {
      one_held.operation->result = 0;
      one_held.operation->sink->finished(*one_held.operation);
    }
  });
  CHECK(one.frontend.all_answers().size() == 16);
  one.settle();
  CHECK(one.queue->counters().batches.get() == batches + 1);
  CHECK(one.queue->counters().notifications_sent.get() == notifications + 1);
  // They were finished behind the target's back: nothing is left to clean up there.
  one.target->forget_held();
}

TEST_CASE("queue: no notification for a frontend that does not want one") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  CHECK(one.frontend.notified(10'000));  // the one at connect
  RawFrontend::store(one.frontend.header().rsp_event, 1000);
  for (int i = 0; i < 10; i++) {
    one.frontend.send(raw_data(wire::kRead, 0, {page.segment()}));
    REQUIRE(eventually([&] { return one.frontend.has_answers(); }));
    one.frontend.answer();
  }
  one.settle();
  CHECK(one.queue->counters().notifications_sent.get() == 0);
}

// While it is busy the frontend need not notify, and req_event says so.
TEST_CASE("queue: a frontend is asked to notify when the queue sleeps, not while it works") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  const auto armed = [&] { return RawFrontend::load(one.frontend.header().req_event); };
  REQUIRE(eventually([&] { return armed() == 1; }));
  CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
  REQUIRE(eventually([&] { return armed() == 2; }));
  CHECK(one.queue->counters().notifications_received.get() <= 2);
}

TEST_CASE("queue: 2000 random requests, held and finished in random order, are answered once") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies) {
    OneQueue one(with(grants), 4096, 2);
    std::vector<GuestPage> pages;
    for (int i = 0; i < 16; i++) pages.emplace_back(*one.guest);
    std::mt19937 random(99);
    size_t sent = 0;
    size_t answered = 0;
    one.target->hold(true);
    while (answered < 2000) {
      while (sent < 2000 && one.frontend.unanswered() < 40) {
        const auto first = static_cast<uint8_t>(random() % 8);
        const auto last = static_cast<uint8_t>(first + random() % (8 - first));
        const auto operation = static_cast<uint8_t>(random() % 4);
        const uint64_t sector = random() % (OneQueue::kDiskSectors - 16);
        if (operation == wire::kFlushDiskcache)
          one.frontend.put(raw_flush());
        else
          one.frontend.put(
              raw_data(operation, sector, {pages[random() % 16].segment(first, last)}));
        sent++;
      }
      one.frontend.publish();
      one.settle();
      const auto held = one.target->await_held(0);
      if (!held.empty() && sent < 2000)
        one.finish(held[random() % held.size()], random() % 20 == 0 ? -EIO : 0);
      else
        one.release_all();  // the end, or nothing but flushes that failed and are tried again
      while (one.frontend.has_answers()) {
        one.frontend.answer();
        answered++;
      }
    }
    CHECK(one.frontend.unanswered() == 0);
  }
}

}  // namespace
}  // namespace ringdisk
