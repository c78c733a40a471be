// SPDX-License-Identifier: Apache-2.0
// Workers that come back to another medium, and flushes that meet. Deaths: worker_stress_test.cc.
#include <doctest/doctest.h>
#include <signal.h>

#include "eventually.h"
#include "open_now.h"
#include "target_driver.h"
#include "targets/remote_target.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
constexpr uint32_t kBlock = 65536;

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
