// SPDX-License-Identifier: Apache-2.0
// What requests cost in system calls. Counted, so that it is the same on every machine.
#include <doctest/doctest.h>

#include "../targets/test_media.h"
#include "open_now.h"
#include "queue_rig.h"

namespace ringdisk {
namespace {

constexpr uint64_t kRequests = 200;
constexpr uint64_t kDiskBytes = 1u << 20;
// A round may come between, and the reactor has its own business.
constexpr uint64_t kMargin = kRequests / 10;

// One request after the other, from a reactor that never looks for work before it sleeps.
TEST_CASE("calls: a lone request takes one io_uring_enter to submit it, one to wait for the next") {
  if (!has_io_uring()) return;
  QueueRig rig(8u << 20, 0);
  // On a disk: what lies in memory cannot be read without waiting, and is the worker's.
  const TempFile file(disk_folder(), kDiskBytes);
  const std::string& path = file.path();
  const auto guest = rig.create_guest(1);
  RawFrontend frontend(*guest, 1);
  const GuestPage page(*guest);
  const auto queue = rig.connect(*guest, frontend, open_target({.kind = "file", .path = path}));
  const RawRequest read = raw_data(wire::kRead, 0, {page.segment()});
  REQUIRE(frontend.ask(read) == wire::kOkay);

  const ReactorCounters& counters = rig.reactor.counters();
  const uint64_t enters = counters.uring_enters.get();
  const uint64_t reads = counters.event_reads.get();
  for (uint64_t i = 0; i < kRequests; i++) REQUIRE(frontend.ask(read) == wire::kOkay);
  run_on(rig.reactor, [] {});
  CHECK(counters.uring_enters.get() - enters <= 2 * kRequests + kMargin);
  CHECK(counters.event_reads.get() - reads <= kRequests + kMargin);
}

}  // namespace
}  // namespace ringdisk
