// SPDX-License-Identifier: Apache-2.0
// Workers that die, of media of each kind: what was under way is done again by the next one.
#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <random>
#include <thread>

#include "eventually.h"
#include "open_now.h"
#include "target/remote_target.h"
#include "target_driver.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
constexpr uint32_t kBlock = 65536;
// Longer than a worker takes to start, on average.
constexpr uint32_t kPauseMaxUs =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    1'000'000;
#else
    20'000;
#endif

// Kills the target's worker again and again, at moments that differ, as long as it lives.
class Killer {
 public:
  explicit Killer(Target& target) : thread_([this, &target] { run(target); }) {}
  ~Killer() {
    done_ = true;
    thread_.join();
  }
  int kills() const { return kills_; }

 private:
  void run(Target& target) {
    std::mt19937 random(42);
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % kPauseMaxUs));
      const int worker = target.worker();
      if (worker > 0 && ::kill(worker, SIGKILL) == 0) kills_++;
    }
  }
  std::atomic<bool> done_{false};
  std::atomic<int> kills_{0};
  std::thread thread_;
};

void check_survives_kills(const TargetSpec& spec) {
  const std::unique_ptr<Target> target = open_target(spec);
  TargetDriver driver(*target);
  TestMemory memory(kBlock);
  Killer killer(*target);
  for (uint32_t round = 0; round < 300 || killer.kills() < 6; round++) {
    CAPTURE(round);
    const uint64_t offset = uint64_t{round % 16} * kBlock;
    memory.fill(round);
    REQUIRE(driver.write(offset, memory) == 0);
    REQUIRE(driver.flush() == 0);
    REQUIRE(driver.read(offset, memory) == 0);
    REQUIRE(memory.matches(round));
  }
}

TEST_CASE("worker: killed under load, of a file whose every call is its") {
  if (!has_uring() || !is_tmpfs("/dev/shm")) return;
  const TempFile file("/dev/shm", kMebibyte);
  check_survives_kills({"file", file.path()});
}

TEST_CASE("worker: killed under load, of a file that is read without it") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kMebibyte);
  check_survives_kills({"file", file.path()});
}

TEST_CASE("worker: killed under load, of a block device, which stays claimed") {
  if (!has_uring()) return;
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  if (!loop) return;
  check_survives_kills({"block", loop->path()});
}

TEST_CASE("worker: one that finds another file at its path serves nothing, and tries again") {
  if (!has_uring() || !is_tmpfs("/dev/shm")) return;
  const TempFile file("/dev/shm", kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path()});
  TargetDriver driver(*target);
  TestMemory memory(kBlock);
  memory.fill(1);
  REQUIRE(driver.write(0, memory) == 0);
  const std::string kept = file.path() + ".kept";
  REQUIRE(::rename(file.path().c_str(), kept.c_str()) == 0);
  Fd(::open(file.path().c_str(), O_RDWR | O_CREAT, 0600)).reset();
  REQUIRE(::truncate(file.path().c_str(), kMebibyte) == 0);
  REQUIRE(::kill(target->worker(), SIGKILL) == 0);
  CHECK(driver.read(0, memory) == -EIO);
  REQUIRE(::rename(kept.c_str(), file.path().c_str()) == 0);
  CHECK(eventually([&] { return driver.read(0, memory) == 0; }));
  CHECK(memory.matches(1));
}

TEST_CASE("worker: flushes that meet share one flush of the device") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path()});
  const auto& remote = dynamic_cast<const RemoteTarget&>(*target);
  TargetDriver driver(*target);
  constexpr size_t kFlushes = 32;
  std::vector<Operation> flushes(kFlushes);
  for (Operation& flush : flushes) {
    flush.kind = Operation::Kind::flush;
    REQUIRE_FALSE(driver.channel().start(flush));
  }
  CHECK(driver.finish_all() == kFlushes);
  CHECK(remote.device_flushes() <= kFlushes / 2);
}

}  // namespace
}  // namespace ringdisk
