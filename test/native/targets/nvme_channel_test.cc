// SPDX-License-Identifier: Apache-2.0
// Without a controller: /dev/null takes commands of any kind by io_uring (Linux 6.1 and later), and
// says that each succeeded. What a controller would do with them is for the rig.
#include "targets/nvme_channel.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cerrno>
#include <vector>

#include "base/fd.h"
#include "needs_uring.h"
#include "target_driver.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

class NullController final : public Target {
 public:
  explicit NullController(uint64_t transfer_bytes_max, uint32_t commands_max = 64)
      : fd_(Fd::checked(::open("/dev/null", O_RDWR | O_CLOEXEC), "cannot open /dev/null")) {
    facts_.kind = MediumKind::nvme;
    facts_.capabilities.capacity = 1 << 30;
    facts_.capabilities.discard = true;
    facts_.nvme = {.nsid = 1,
                   .block_shift = 9,
                   .transfer_bytes_max = transfer_bytes_max,
                   .volatile_write_cache = true,
                   .commands_max = commands_max};
  }
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override {
    return open_nvme_channel(fd_.get(), facts_.nvme, facts_.capabilities, context);
  }

 private:
  Fd fd_;
};

struct Asker final : OperationSink {
  std::vector<int32_t> results;
  void finished(Operation& operation) override { results.push_back(operation.result); }
};

struct Fixture {
  NullController controller;
  TargetDriver driver{controller};
  TestMemory memory{kMebibyte};
  Asker asker;

  explicit Fixture(uint64_t transfer_bytes_max, uint32_t commands_max = 64)
      : controller(transfer_bytes_max, commands_max) {}

  Operation make(Operation::Kind kind) {
    Operation operation = TargetDriver::transfer(kind, 0, memory);
    operation.channel = &driver.channel();
    operation.sink = &asker;
    return operation;
  }
};

bool takes_commands() {
  if (!has_io_uring()) return false;
  const UringFeatures features = probe_uring();
  if (!features.big_entries || !features.uring_cmd) {
    MESSAGE("skipped: this kernel's io_uring has no commands");
    return false;
  }
  Fixture fixture(kMebibyte);
  Operation operation = fixture.make(Operation::Kind::read);
  fixture.driver.channel().start(operation);
  fixture.driver.run_all();
  const bool takes = fixture.asker.results == std::vector{0};
  if (!takes) MESSAGE("skipped: this kernel's /dev/null takes no commands");
  return takes;
}

TEST_CASE("nvme channel: 1 MiB on a controller that takes 128 KiB is under way as a whole") {
  if (!takes_commands()) return;
  Fixture fixture(128 << 10);
  for (const auto kind : {Operation::Kind::read, Operation::Kind::write}) {
    Operation operation = fixture.make(kind);
    REQUIRE_FALSE(fixture.driver.channel().start(operation));
    CHECK(fixture.driver.uring().operations_in_flight() == 8);
    fixture.driver.run_all();
  }
  CHECK(fixture.asker.results == std::vector{0, 0});
}

TEST_CASE("nvme channel: a controller that takes a whole request gets it as one command") {
  if (!takes_commands()) return;
  Fixture fixture(kMebibyte);
  Operation operation = fixture.make(Operation::Kind::write);
  REQUIRE_FALSE(fixture.driver.channel().start(operation));
  CHECK(fixture.driver.uring().operations_in_flight() == 1);
  fixture.driver.run_all();
  CHECK(fixture.asker.results == std::vector{0});
}

TEST_CASE("nvme channel: no more commands in flight than the device has room for") {
  if (!takes_commands()) return;
  Fixture fixture(64 << 10, 6);
  std::vector<Operation> operations;
  for (int i = 0; i < 4; i++) operations.push_back(fixture.make(Operation::Kind::write));
  for (Operation& operation : operations) REQUIRE_FALSE(fixture.driver.channel().start(operation));
  CHECK(fixture.driver.uring().operations_in_flight() == 6);
  fixture.driver.run_all();
  CHECK(fixture.asker.results == std::vector{0, 0, 0, 0});
}

TEST_CASE("nvme channel: 'not now' is asked again later, a bounded number of times") {
  if (!takes_commands()) return;
  Fixture fixture(kMebibyte);
  Operation operation = fixture.make(Operation::Kind::write);
  REQUIRE_FALSE(fixture.driver.channel().start(operation));
  uint64_t now = clock_us();
  for (uint64_t tries = 1; tries <= 8; tries++) {
    fixture.driver.await_part(operation);
    REQUIRE_FALSE(operation.channel->advance(operation, -EAGAIN));
    CHECK(fixture.driver.counters().retries.get() == tries);
    CHECK(fixture.driver.uring().operations_in_flight() == 0);
    fixture.driver.alarms().run(now);  // too early
    CHECK(fixture.driver.uring().operations_in_flight() == 0);
    now = clock_us() + (uint64_t{1000} << (tries - 1));
    fixture.driver.alarms().run(now);
    CHECK(fixture.driver.uring().operations_in_flight() == 1);
    now = clock_us();
  }
  fixture.driver.await_part(operation);
  CHECK(operation.channel->advance(operation, -EAGAIN));
  CHECK(operation.result == -EAGAIN);
}

TEST_CASE("nvme channel: a discard that waits for its turn is given up when nobody wants it") {
  if (!takes_commands()) return;
  Fixture fixture(kMebibyte, 1);
  Operation write = fixture.make(Operation::Kind::write);
  Operation discard = fixture.make(Operation::Kind::discard);
  REQUIRE_FALSE(fixture.driver.channel().start(write));
  REQUIRE_FALSE(fixture.driver.channel().start(discard));
  discard.cancelled = true;
  fixture.driver.channel().cancel_discards();
  fixture.driver.run_all();
  CHECK(fixture.asker.results.size() == 2);
  CHECK(discard.result == -ECANCELED);
  CHECK(write.result == 0);
}

}  // namespace
}  // namespace ringdisk
