// SPDX-License-Identifier: Apache-2.0
// The worker's threads on a medium that hangs as it is told to.
#include "worker/executor.h"

#include <doctest/doctest.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <chrono>
#include <thread>

namespace ringdisk {
namespace {

using std::chrono::milliseconds;

// Flushes come back at once; everything else hangs until it is let go.
class HangingMedium final : public Medium {
 public:
  Size measure() const override { return {1 << 20, 1 << 20}; }
  int32_t carry_out(const LaneSubmission& call, std::byte*) const override {
    if (call.call == LaneCall::discard) go_.wait(false);
    return 0;
  }
  void let_go() {
    go_ = true;
    go_.notify_all();
  }

 private:
  mutable std::atomic<bool> go_{false};
};

// The reactor's end of a lane.
struct Submitter {
  WorkerPage& page;
  Fd memory{::memfd_create("rd-test", MFD_CLOEXEC)};
  LaneHeader* header = nullptr;

  explicit Submitter(WorkerPage& shared) : page(shared) {
    REQUIRE(::ftruncate(memory.get(), kLaneBytes) == 0);
    void* mapped = ::mmap(nullptr, kLaneBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    header = new (mapped) LaneHeader{};
  }
  void submit(LaneCall call) {
    const uint32_t index = header->submitted.load();
    header->submissions[index % kLaneEntries] = {call, index, 0, 4096, 0, 0};
    header->submitted.store(index + 1);
    if (page.idle.load() == 0) return;
    page.bell.fetch_add(1);
    ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&page.bell), FUTEX_WAKE, 1, nullptr, nullptr,
              0);
  }
  bool completes(uint32_t count) const {
    for (int i = 0; i < 300; i++) {
      if (header->completed.load() >= count) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return false;
  }
};

// Both live as long as the process does, as in a worker.
TEST_CASE("executor: calls that hang for long leave somebody who listens") {
  auto& medium = *new HangingMedium;
  auto& page = *new WorkerPage{};
  auto& executor = *new Executor(medium, page);
  Submitter lane(page);
  executor.add_lane(1, lane.memory, Fd(::eventfd(0, EFD_CLOEXEC)));
  for (int hanging = 0; hanging < 4; hanging++) {
    CAPTURE(hanging);
    lane.submit(LaneCall::discard);
    // Longer than a thread looks for work that is not the only one.
    std::this_thread::sleep_for(milliseconds(2500));
    lane.submit(LaneCall::flush);
    CHECK(lane.completes(static_cast<uint32_t>(hanging) + 1));
  }
  medium.let_go();
  CHECK(lane.completes(8));
}

}  // namespace
}  // namespace ringdisk
