// SPDX-License-Identifier: Apache-2.0
// Limits of whole disks, with queues on several reactors and guests that ask for all they can get.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "engine/engine.h"
#include "engine_results.h"
#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kQueues = 4;

// A guest with four queues, and a disk that is done with everything at once.
struct Disk {
  Engine& engine;
  LoopbackGuest guest;
  uint32_t target = 0;
  uint32_t vbd = 0;
  WorkloadControl control;
  std::thread thread;

  Disk(Engine& of, const std::string& machine_dir, Domid domid, const std::string& limits)
      : engine(of), guest(machine_dir, domid, 16384) {
    engine.open_target(1, {"null", "1073741824"});
    target = result_of(engine, 1).value;
    engine.claim_target(2, target, {});
    result_of(engine, 2);
    ConnectRequest request{.target = target, .domid = domid, .limits = limits};
    request.geometry.indirect_segments_max = kIndirectSegmentsMax;
    for (uint32_t i = 0; i < kQueues; i++) {
      const auto queue = guest.create_queue(0, Abi::x86_64);
      request.queues.push_back(
          {.index = i, .ring_refs = queue.ring_refs, .remote_port = queue.event_channel});
    }
    engine.connect(3, request);
    vbd = result_of(engine, 3).value;
    guest.start(kIndirectSegmentsMax, false);
  }
  ~Disk() {
    end();
    engine.disconnect(4, vbd);
    CHECK(result_of(engine, 4).type == EngineEvent::Type::done);
    guest.destroy_queues();
    engine.close_target(5, target);
    result_of(engine, 5);
  }
  void flood(uint32_t depth, uint64_t block_bytes = 4096) {
    thread = std::thread([this, depth, block_bytes] {
      guest.run({.operation = Workload::Operation::randwrite,
                 .block_bytes = block_bytes,
                 .depth = depth,
                 .length = 64u << 20,
                 .milliseconds = 60'000},
                control);
    });
  }
  void end() {
    engine.limit(vbd, "");  // the frontend waits for what it has asked, but not for long
    control.cancelled = true;
    if (thread.joinable()) thread.join();
  }
};

struct Fixture {
  TempMachine machine;
  Engine engine{make_loopback_platform(machine.dir()),
                EngineOptions{.reactors = 2, .bounce_pool_bytes = 8u << 20}, nullptr};
};

// How many of them `count` counts in a second from now on, while a guest floods.
double per_second(const std::atomic<uint64_t>& count) {
  const uint64_t before = count;
  const uint64_t start = clock_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  return static_cast<double>(count - before) * 1e9 / static_cast<double>(clock_ns() - start);
}

// The bounds are wide: whoever else uses this machine must not matter. bench/limits.mjs measures.
TEST_CASE("limits: all queues of a disk together keep to it, and other figures hold at once") {
  if (!has_io_uring()) return;
  Fixture f;
  f.engine.set_limits("disk", {.operations = {.both = 2000}, .operations_burst = 20});
  Disk disk(f.engine, f.machine.dir(), 1, "disk");
  disk.flood(16);
  const double first = per_second(disk.control.requests);
  CHECK(first > 1800);
  CHECK(first < 2100);
  f.engine.set_limits("disk", {.bytes = {.writes = 2u << 20}});
  const double second = per_second(disk.control.bytes);
  CHECK(second > 1.8 * (1u << 20));
  CHECK(second < 2.2 * (1u << 20));
  f.engine.limit(disk.vbd, "");
  CHECK(per_second(disk.control.requests) > 3000);
}

TEST_CASE("limits: disks of a group share, also the one that asks for little at a time") {
  if (!has_io_uring()) return;
  Fixture f;
  f.engine.set_limits("group", {.operations = {.both = 2000}, .operations_burst = 20});
  Disk greedy(f.engine, f.machine.dir(), 1, "group");
  Disk modest(f.engine, f.machine.dir(), 2, "");
  f.engine.limit(modest.vbd, "group");
  greedy.flood(32);
  modest.flood(1);
  const uint64_t before = greedy.control.requests;
  const double share = per_second(modest.control.requests);
  const uint64_t other = greedy.control.requests - before;
  CHECK(share > 500);
  CHECK(static_cast<double>(other) / 1.5 + share < 2200);
}

TEST_CASE("limits: shares of a group are had by weight, and follow its figures") {
  if (!has_io_uring()) return;
  Fixture f;
  f.engine.set_limits("group", {.operations = {.both = 2000}, .operations_burst = 100});
  f.engine.set_share("heavy", "group", 3);
  f.engine.set_share("light", "group", 1);
  Disk heavy(f.engine, f.machine.dir(), 1, "heavy");
  Disk light(f.engine, f.machine.dir(), 2, "light");
  heavy.flood(4);
  light.flood(32);
  const uint64_t before = heavy.control.requests;
  const double share = per_second(light.control.requests);
  const double other = static_cast<double>(heavy.control.requests - before) / 1.5;
  CHECK(share < 700);
  CHECK(share > 300);
  CHECK(other + share < 2200);
  CHECK(other + share > 1400);  // whoever wakes late loses what the bucket does not hold
  f.engine.set_limits("group", {.operations = {.both = 20}, .operations_burst = 1});
  CHECK(per_second(heavy.control.requests) < 100);
  // Another weight is another share, for whoever is told.
  f.engine.set_limits("group", {.operations = {.both = 2000}, .operations_burst = 20});
  f.engine.set_share("light", "group", 9);
  f.engine.limit(light.vbd, "light");
  CHECK(per_second(light.control.requests) > 1100);
  CHECK_THROWS_AS(f.engine.set_share("a", "nobody", 1), std::invalid_argument);
  CHECK_THROWS_AS(f.engine.set_share("a", "light", 1), std::invalid_argument);
  CHECK_THROWS_AS(f.engine.set_share("a", "group", 0), std::invalid_argument);
}

TEST_CASE("limits: nothing waits for a name that is not there") {
  if (!has_io_uring()) return;
  Fixture f;
  CHECK_THROWS_AS(f.engine.limit(7, ""), std::invalid_argument);
  f.engine.set_limits("a", {.operations = {.both = 1}});
  Disk disk(f.engine, f.machine.dir(), 1, "a");
  CHECK_THROWS_AS(f.engine.limit(disk.vbd, "b"), std::invalid_argument);
  f.engine.drop_limits("a");
  CHECK_THROWS_AS(f.engine.limit(disk.vbd, "a"), std::invalid_argument);
}

// Whoever closes does not wait, and limits that change meanwhile find queues that are there.
TEST_CASE("limits: changed again and again while disks come and go under load") {
  if (!has_io_uring()) return;
  Fixture f;
  f.engine.set_limits("a", {.operations = {.both = 1}});
  f.engine.set_limits("b", {.operations = {.both = 1000}});
  for (int round = 0; round < 10; round++) {
    Disk disk(f.engine, f.machine.dir(), 1, round % 2 == 0 ? "a" : "");
    disk.flood(8);
    for (uint64_t i = 0; i < 20; i++) {
      f.engine.set_limits(i % 2 == 0 ? "a" : "b", {.operations = {.both = 1 + 1000 * i}});
      f.engine.limit(disk.vbd, i % 3 == 0 ? "" : i % 3 == 1 ? "a" : "b");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

}  // namespace
}  // namespace ringdisk
