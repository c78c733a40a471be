// SPDX-License-Identifier: Apache-2.0
// Filters that come and go while a guest works on all its queues.
#include "engine/exchange.h"

#include <doctest/doctest.h>

#include <atomic>
#include <system_error>
#include <thread>

#include "../targets/test_media.h"
#include "engine/engine.h"
#include "engine_results.h"
#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"
#include "watching_filter.h"

namespace ringdisk {
namespace {

constexpr uint64_t kDiskBytes = 16u << 20;
constexpr Domid kDomid = 1;

// A guest with four queues on two reactors, and a file as its disk.
struct Fixture {
  TempMachine machine;
  TempFile file{disk_folder(), kDiskBytes};
  Engine engine{make_loopback_platform(machine.dir()),
                EngineOptions{.reactors = 2, .bounce_pool_bytes = 8u << 20}, nullptr};
  LoopbackGuest guest{machine.dir(), kDomid, 16384};
  uint32_t target = 0;
  uint32_t vbd = 0;

  explicit Fixture(OnError on_error = OnError::report) {
    engine.open_target(1, {"file", file.path()});
    target = result_of(1).value;
    engine.claim_target(2, target, {});
    result_of(2);
    ConnectRequest request;
    request.target = target;
    request.domid = kDomid;
    request.on_error = on_error;
    request.geometry.indirect_segments_max = kIndirectSegmentsMax;
    for (uint32_t i = 0; i < 4; i++) {
      const auto queue = guest.create_queue(0, Abi::x86_64);
      request.queues.push_back(
          {.index = i, .ring_refs = queue.ring_refs, .remote_port = queue.event_channel});
    }
    engine.connect(3, request);
    vbd = result_of(3).value;
    guest.start(kIndirectSegmentsMax, false);
  }
  ~Fixture() {
    if (vbd != 0) disconnect();
    guest.destroy_queues();
    engine.close_target(5, target);
    result_of(5);
  }

  EngineEvent result_of(uint32_t command) { return ringdisk::result_of(engine, command); }
  void disconnect() {
    engine.disconnect(4, vbd);
    CHECK(result_of(4).type == EngineEvent::Type::done);
    vbd = 0;
  }
  // 0, or what failed.
  int exchange(const StackChange& change) {
    engine.exchange(6, vbd, change);
    return result_of(6).error;
  }
};

// Writes or verifies all of the disk again and again until it is told to end.
struct Work {
  std::atomic<bool> ends{false};
  std::atomic<uint64_t> rounds{0};
  std::atomic<uint64_t> wrong{0};
  std::thread thread;

  explicit Work(LoopbackGuest& guest)
      : thread([this, &guest] {
          for (uint64_t seed = 1; !ends; seed++) {
            for (const auto operation :
                 {Workload::Operation::randwrite, Workload::Operation::verify}) {
              WorkloadControl control;
              const auto result = guest.run({.operation = operation,
                                             .block_bytes = 16384,
                                             .depth = 8,
                                             .length = kDiskBytes,
                                             .seed = seed},
                                            control);
              wrong += result->errors + result->mismatches;
            }
            rounds++;
          }
        }) {}
  ~Work() { end(); }
  void end() {
    ends = true;
    if (thread.joinable()) thread.join();
  }
};

TEST_CASE("exchange: filters come and go while a guest works, and it notices nothing") {
  if (!has_io_uring()) return;
  Watched below, above;
  {
    Fixture fixture;
    Work work(fixture.guest);
    // The first stays and sees by which way everything comes.
    REQUIRE(fixture.exchange(put_watching(1, below)) == 0);
    CHECK(below.filters == 4);
    for (int i = 0; i < 50; i++) {
      const uint64_t before = above.started;
      REQUIRE(fixture.exchange(put_watching(2, above)) == 0);
      REQUIRE(eventually([&] { return above.started > before; }));
      REQUIRE(fixture.exchange(remove_filter(2)) == 0);
      const uint64_t seen = above.started;
      const uint64_t passed = below.started;
      REQUIRE(eventually([&] { return below.started > passed + 10; }));
      CHECK(above.started == seen);
    }
    REQUIRE(eventually([&] { return work.rounds > 0; }));
    work.end();
    CHECK(work.wrong == 0);
    CHECK(below.both_ways == 0);
    CHECK(above.in_flight == 0);
    // One in the middle goes as well.
    REQUIRE(fixture.exchange(put_watching(3, above)) == 0);
    REQUIRE(fixture.exchange(remove_filter(1)) == 0);
    REQUIRE(fixture.exchange(remove_filter(3)) == 0);
    CHECK(fixture.exchange(remove_filter(3)) == ENOENT);
  }
  CHECK(below.filters == 0);
  CHECK(above.filters == 0);
}

TEST_CASE("exchange: if one queue's filter can't be had, no queue gets one") {
  if (!has_io_uring()) return;
  Watched watched;
  Fixture fixture;
  Work work(fixture.guest);
  std::atomic<int> made{0};
  const StackChange half{.make = [&](const ChannelContext& context) {
    if (++made == 3) throw std::system_error(EMFILE, std::generic_category());
    return std::make_unique<WatchingFilter>(1, watched, context);
  }};
  CHECK(fixture.exchange(half) == EMFILE);
  CHECK(watched.filters == 0);
  CHECK(watched.started == 0);
  CHECK(fixture.exchange(put_watching(1, watched)) == 0);
  REQUIRE(eventually([&] { return watched.started > 0; }));
  work.end();
  CHECK(work.wrong == 0);
}

TEST_CASE("exchange: a disconnect waits for its end") {
  if (!has_io_uring()) return;
  for (int i = 0; i < 20; i++) {
    Watched watched;
    {
      Fixture fixture;
      fixture.engine.exchange(6, fixture.vbd, put_watching(1, watched));
      fixture.engine.exchange(7, fixture.vbd, put_watching(2, watched));
      CHECK(fixture.result_of(7).error == EBUSY);
      fixture.disconnect();
    }
    CHECK(watched.filters == 0);
  }
}

}  // namespace
}  // namespace ringdisk
