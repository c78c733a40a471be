// SPDX-License-Identifier: Apache-2.0
// What waits in a channel until fewer commands are in flight. The device takes none of them: only
// what is submitted counts.
#include "targets/nvme_channel.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "io/uring.h"
#include "target_driver.h"
#include "test_media.h"

namespace ringdisk {
namespace {

struct Told final : OperationSink {
  const Operation* last = nullptr;
  void finished(Operation& operation) override { last = &operation; }
};

TEST_CASE("nvme channel: a discard that waits for its turn is given up when nobody wants it") {
  const UringFeatures features = probe_uring();
  if (!has_uring() || !features.big_entries || !features.uring_cmd) return;
  const Fd device(::open("/dev/null", O_RDWR | O_CLOEXEC));
  Uring uring(features);
  NvmeChannel channel(device.get(),
                      {.block_shift = 9, .transfer_bytes_max = 4096, .commands_max = 1},
                      {.discard = true}, uring);
  TestMemory memory(4096);
  Told told;
  Operation write = TargetDriver::transfer(Operation::Kind::write, 0, memory);
  Operation discard{};
  discard.kind = Operation::Kind::discard;
  discard.length = 4096;
  discard.sink = &told;
  REQUIRE_FALSE(channel.start(write));
  REQUIRE_FALSE(channel.start(discard));
  discard.cancelled = true;
  uring.sleep(UINT64_MAX);
  REQUIRE(uring.reap().operations == &write);
  CHECK(channel.advance(write, 0));
  CHECK(uring.operations_in_flight() == 0);
  CHECK(told.last == &discard);
  CHECK(discard.result == -ECANCELED);
}

}  // namespace
}  // namespace ringdisk
