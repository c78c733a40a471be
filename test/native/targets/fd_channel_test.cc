// SPDX-License-Identifier: Apache-2.0
#include "targets/fd_channel.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "open_now.h"
#include "target_driver.h"
#include "targets/part.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

// A file target whose channel is told lies about what the kernel did.
struct FileFixture {
  TempFile file{disk_folder(), 80 * kMebibyte};
  std::unique_ptr<Target> target = open_target({"file", file.path()});
  TargetDriver driver{*target};
  TargetChannel& channel = driver.channel();

  void check_continues(int32_t first_part) {
    TestMemory memory(65536);
    memory.fill(5);
    REQUIRE(driver.write(0, memory) == 0);
    memory.clear();
    Operation operation = TargetDriver::transfer(Operation::Kind::read, 0, memory);
    REQUIRE_FALSE(channel.start(operation));
    driver.await_part(operation);
    REQUIRE(operation.part_result == 65536);
    // The rest is read again, to the same places.
    REQUIRE_FALSE(channel.advance(operation, first_part));
    driver.await_part(operation);
    CHECK(operation.part_result == 65536 - first_part);
    REQUIRE(channel.advance(operation, operation.part_result));
    CHECK(operation.result == 0);
    CHECK(memory.matches(5));
  }
};

TEST_CASE("fd channel: a short transfer goes on where it stopped") {
  if (!has_uring()) return;
  FileFixture fixture;
  const auto unit = static_cast<int32_t>(fixture.target->capabilities().io_alignment);
  fixture.check_continues(unit);
  fixture.check_continues(9 * unit);
  fixture.check_continues(65536 - unit);
}

TEST_CASE("fd channel: 'again' is tried a bounded number of times") {
  if (!has_uring()) return;
  FileFixture fixture;
  TestMemory memory(8192);
  Operation operation = TargetDriver::transfer(Operation::Kind::write, 0, memory);
  REQUIRE_FALSE(fixture.channel.start(operation));
  for (uint32_t i = 0; i < kRetriesMax; i++) {
    fixture.driver.await_part(operation);
    REQUIRE_FALSE(fixture.channel.advance(operation, i % 2 == 0 ? -EAGAIN : -EINTR));
  }
  fixture.driver.await_part(operation);
  CHECK(fixture.channel.advance(operation, -EAGAIN));
  CHECK(operation.result == -EAGAIN);
  // The next use of the same operation starts with a full allowance.
  CHECK(fixture.driver.run(operation) == 0);
  CHECK(operation.retries == 0);
}

TEST_CASE("fd channel: an error of any part is the result") {
  if (!has_uring()) return;
  FileFixture fixture;
  TestMemory memory(8192);
  Operation operation = TargetDriver::transfer(Operation::Kind::write, 0, memory);
  REQUIRE_FALSE(fixture.channel.start(operation));
  fixture.driver.await_part(operation);
  CHECK(fixture.channel.advance(operation, -ENOSPC));
  CHECK(operation.result == -ENOSPC);
}

TEST_CASE("fd channel: a large discard goes in parts, and ends between two when nobody wants it") {
  if (!has_uring()) return;
  FileFixture fixture;
  Operation operation{};
  operation.kind = Operation::Kind::discard;
  operation.length = 80 * kMebibyte;
  REQUIRE_FALSE(fixture.channel.start(operation));
  fixture.driver.await_part(operation);
  REQUIRE_FALSE(fixture.channel.advance(operation, operation.part_result));
  CHECK(operation.done == kDiscardPartBytes);
  operation.cancelled = true;
  fixture.driver.await_part(operation);
  CHECK(fixture.channel.advance(operation, operation.part_result));
  CHECK(operation.result == -ECANCELED);
}

TEST_CASE("fd channel: a block device's discard gives its blocks back") {
  if (!has_uring()) return;
  std::optional<LoopDevice> loop = LoopDevice::create(80 * kMebibyte);
  if (!loop) return;
  const std::unique_ptr<Target> target = open_target({"block", loop->path()});
  TargetDriver driver(*target);
  TestMemory memory(kMebibyte);
  memory.fill(9);
  REQUIRE(driver.write(40 * kMebibyte, memory) == 0);
  REQUIRE(driver.flush() == 0);
  CHECK(loop->allocated_bytes() >= kMebibyte);
  CHECK(driver.discard(0, 80 * kMebibyte) == 0);
  CHECK(loop->allocated_bytes() == 0);
  CHECK(driver.discard(512, 80 * kMebibyte) == -EINVAL);  // the last part ends beyond the end
  CHECK(driver.discard(0, kMebibyte, true) == -EOPNOTSUPP);
}

}  // namespace
}  // namespace ringdisk
