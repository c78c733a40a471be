// SPDX-License-Identifier: Apache-2.0
// Bitmaps that come and go while a guest works on all its queues.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>

#include "../targets/test_media.h"
#include "base/bitmap.h"
#include "engine/engine.h"
#include "engine_results.h"
#include "needs_uring.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint64_t kDiskBytes = 4u << 20;
constexpr uint32_t kGranularity = 64u << 10;

// A guest with four queues on two reactors, and a file as its disk.
struct Fixture {
  TempMachine machine;
  TempFile file{disk_folder(), kDiskBytes};
  Engine engine{make_loopback_platform(machine.dir()),
                EngineOptions{.reactors = 2, .bounce_pool_bytes = 8u << 20}, nullptr};
  LoopbackGuest guest{machine.dir(), 1, 16384};
  uint32_t target = 0;
  uint32_t vbd = 0;
  uint32_t command = 10;

  Fixture() {
    engine.open_target(1, {"file", file.path()});
    target = result_of(engine, 1).value;
    engine.claim_target(2, target, {});
    result_of(engine, 2);
    ConnectRequest request{.target = target, .domid = 1};
    for (uint32_t i = 0; i < 4; i++) {
      const auto queue = guest.create_queue(0, Abi::x86_64);
      request.queues.push_back(
          {.index = i, .ring_refs = queue.ring_refs, .remote_port = queue.event_channel});
    }
    engine.connect(3, request);
    vbd = result_of(engine, 3).value;
    guest.start(0, false);
  }
  ~Fixture() {
    engine.disconnect(4, vbd);
    result_of(engine, 4);
    guest.destroy_queues();
    engine.close_target(5, target);
    result_of(engine, 5);
  }
  std::string path(int number) const { return machine.dir() + "/bits" + std::to_string(number); }
  int track(const std::vector<std::string>& paths) {
    engine.track(++command, target, paths);
    return result_of(engine, command).error;
  }
  std::vector<char> content() const {
    std::vector<char> bytes(kDiskBytes);
    std::ifstream(file.path(), std::ios::binary).read(bytes.data(), kDiskBytes);
    return bytes;
  }
  void work(uint64_t seed, std::atomic<bool>& ends) {
    while (!ends) {
      WorkloadControl control;
      guest.run({.operation = Workload::Operation::randwrite,
                 .block_bytes = 4096,
                 .depth = 16,
                 .length = kDiskBytes,
                 .bytes = 64u << 10,
                 .seed = seed++},
                control);
    }
  }
};

TEST_CASE("tracking: what a copy did not see is marked") {
  if (!has_io_uring()) return;
  Fixture f;
  uint64_t clear_chunks = 0;
  for (int round = 1; round <= 20; round++) {
    std::atomic<bool> ends{false};
    std::thread guest([&] { f.work(static_cast<uint64_t>(round) * 1000, ends); });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    Bitmap::create(f.path(round), kDiskBytes, kGranularity, "");
    REQUIRE(f.track({f.path(round)}) == 0);
    const std::vector<char> copy = f.content();
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    ends = true;
    guest.join();
    const std::vector<char> now = f.content();
    const Bitmap bitmap(f.path(round));
    for (uint64_t at = 0; at < kDiskBytes; at += kGranularity) {
      const auto first = static_cast<ptrdiff_t>(at);
      const bool is_same = std::equal(copy.begin() + first, copy.begin() + first + kGranularity,
                                      now.begin() + first);
      if (!is_same) CHECK(bitmap.is_set(at));
      if (!bitmap.is_set(at)) clear_chunks++;
    }
  }
  // It told something.
  CHECK(clear_chunks > 0);
  CHECK(f.track({}) == 0);
}

TEST_CASE("tracking: with a file that is no bitmap all stays as it was") {
  if (!has_io_uring()) return;
  Fixture f;
  Bitmap::create(f.path(1), kDiskBytes, kGranularity, "");
  REQUIRE(f.track({f.path(1)}) == 0);
  CHECK(f.track({f.path(1), f.file.path()}) == ESTALE);
  CHECK(f.track({f.path(2)}) == ENOENT);
  f.engine.track(6, 999, {});
  CHECK(result_of(f.engine, 6).error == EBADF);
  WorkloadControl control;
  f.guest.run({.operation = Workload::Operation::write,
               .block_bytes = 4096,
               .depth = 1,
               .length = kDiskBytes,
               .bytes = 4096,
               .seed = 1},
              control);
  CHECK(Bitmap(f.path(1)).set_bytes(kDiskBytes) > 0);
}

}  // namespace
}  // namespace ringdisk
