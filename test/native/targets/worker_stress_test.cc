// SPDX-License-Identifier: Apache-2.0
// Workers that die, that are many, that come and go: nothing is lost, doubled or left behind.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "open_now.h"
#include "target_driver.h"
#include "test_media.h"

namespace ringdisk {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBytes = 8u << 20;

size_t open_descriptors() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    count++;
  }
  return count;
}

uint64_t mapped_regions() {
  std::ifstream maps("/proc/self/maps");
  uint64_t count = 0;
  for (std::string line; std::getline(maps, line);) count++;
  return count;
}

// Answers to flushes, of all loads; and how many may have been on their way when a worker dies.
std::atomic<uint64_t> flushed{0};
constexpr uint64_t kUnderWay = 300;

// One queue that has many operations of all kinds under way, each block written by one at a time.
class Load {
 public:
  explicit Load(Target& target, uint64_t first) : first_(first), driver_(target) {
    for (size_t i = 0; i < slots_.size(); i++) slots_[i].memory.fill(0);
  }
  // Each block is written with its turn's number, then read, then flushed.
  bool run(uint32_t turns, const std::function<void()>& between) {
    for (uint32_t turn = 1; turn <= turns; turn++) {
      between();
      for (const auto kind :
           {Operation::Kind::write, Operation::Kind::flush, Operation::Kind::read})
        if (!all(kind, turn)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kBlock = 16384;
  struct Slot {
    TestMemory memory{kBlock};
    Operation operation{};
  };

  bool all(Operation::Kind kind, uint32_t turn) {
    size_t pending = 0;
    for (size_t i = 0; i < slots_.size(); i++) {
      Slot& slot = slots_[i];
      const auto seed = static_cast<uint32_t>(turn * 1000 + i);
      if (kind == Operation::Kind::write) slot.memory.fill(seed);
      if (kind == Operation::Kind::read) slot.memory.clear();
      slot.operation = TargetDriver::transfer(kind, first_ + i * kBlock, slot.memory);
      if (kind == Operation::Kind::flush) slot.operation.offset = slot.operation.length = 0;
      if (driver_.channel().start(slot.operation)) return false;
      pending++;
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (pending > 0) {
      if (std::chrono::steady_clock::now() > end) {
        MESSAGE("hangs: ", pending);
        std::abort();
      }
      Operation* done = driver_.parts(milliseconds(5));
      while (done) {
        Operation& one = *done;
        done = one.next;
        if (!driver_.channel().advance(one, one.part_result)) continue;
        pending--;
        if (one.kind == Operation::Kind::flush) flushed++;
        if (one.result != 0) {
          MESSAGE("result ", one.result);
          return false;
        }
      }
    }
    if (kind != Operation::Kind::read) return true;
    for (size_t i = 0; i < slots_.size(); i++)
      if (!slots_[i].memory.matches(static_cast<uint32_t>(turn * 1000 + i))) return false;
    return true;
  }

  const uint64_t first_;
  TargetDriver driver_;
  std::array<Slot, 100> slots_;  // more than a lane has
};

void check_deaths(const TargetSpec& spec) {
  const std::unique_ptr<Target> target = open_target(spec);
  std::atomic<bool> stop{false};
  std::atomic<int> deaths{0};
  std::thread killer([&] {
    std::mt19937 random(1);
    // Not before the one before has come back, which a flush tells: nobody else flushes.
    for (uint64_t before = 0; !stop && deaths < 100;) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
      const int worker = target->worker();
      if (flushed == before || worker <= 0 || ::kill(worker, SIGKILL) != 0) continue;
      deaths++;
      before = flushed + kUnderWay;
      while (!stop && flushed < before) std::this_thread::sleep_for(milliseconds(1));
      before = flushed;
    }
  });
  std::atomic<bool> well{true};
  std::thread other([&] {
    Load load(*target, kBytes / 2);
    well = load.run(30, [] {});
  });
  Load load(*target, 0);
  const bool first_well = load.run(30, [] {});
  other.join();
  stop = true;
  killer.join();
  CHECK(first_well);
  CHECK(well);
  CHECK(deaths > 0);
}

TEST_CASE("worker stress: deaths under load, a file") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kBytes);
  check_deaths({"file", file.path(), false});
}

TEST_CASE("worker stress: deaths under load, a device") {
  if (!has_uring()) return;
  const std::optional<LoopDevice> loop = LoopDevice::create(kBytes);
  if (!loop) return;
  check_deaths({"block", loop->path(), false});
}

TEST_CASE("worker stress: opened and closed hundreds of times") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kBytes);
  close_now(open_target({"file", file.path(), false}));
  const size_t descriptors = open_descriptors();
  const uint64_t regions = mapped_regions();
  for (int i = 0; i < 300; i++) {
    std::unique_ptr<Target> target = open_target({"file", file.path(), false});
    if (i % 10 == 0) {
      TargetDriver driver(*target);
      CHECK(driver.flush() == 0);
    }
    close_now(std::move(target));
  }
  CHECK(open_descriptors() <= descriptors + 1);
  CHECK(mapped_regions() <= regions + 8);
}

TEST_CASE("worker stress: a hundred at once") {
  if (!has_uring()) return;
  std::vector<std::unique_ptr<TempFile>> files;
  std::vector<std::unique_ptr<Target>> targets;
  for (int i = 0; i < 100; i++) {
    files.push_back(std::make_unique<TempFile>(disk_folder(), kBytes));
    targets.push_back(open_target({"file", files.back()->path(), false}));
  }
  for (const auto& target : targets) ::kill(target->worker(), SIGKILL);
  for (const auto& target : targets) CHECK(TargetDriver(*target).flush() == 0);
  for (auto& target : targets) close_now(std::move(target));
}

}  // namespace
}  // namespace ringdisk
