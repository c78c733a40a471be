// SPDX-License-Identifier: Apache-2.0
// A queue with much to do leaves its neighbours on the same reactor their turn.
#include <doctest/doctest.h>

#include "queue_rig.h"

namespace ringdisk {
namespace {

constexpr uint64_t kDiskBytes = 128u << 20;
constexpr uint64_t kNeighbourSector = kDiskBytes / kSectorBytes - 8;

// A greedy queue and one with a single request, both of whose requests are there when the reactor
// looks.
struct Neighbours {
  QueueRig rig{256u << 20};
  std::unique_ptr<LoopbackDomain> greedy_guest = rig.create_guest(1);
  std::unique_ptr<LoopbackDomain> guest = rig.create_guest(2);
  std::shared_ptr<ScriptedTarget> target = std::make_shared<ScriptedTarget>(kDiskBytes);
  RawFrontend greedy{*greedy_guest, kRingPagesMax};
  RawFrontend modest{*guest, 1};
  GuestPage greedy_page{*greedy_guest};
  GuestPage page{*guest};
  std::unique_ptr<ConnectedQueue> greedy_queue = rig.connect(*greedy_guest, greedy, target);
  std::unique_ptr<ConnectedQueue> queue = rig.connect(*guest, modest, target);

  ~Neighbours() {
    target->hold(false);
    for (const auto& held : target->await_held(0)) target->finish(rig.reactor, held);
  }

  // How many of the greedy queue's `count` requests were started before the neighbour's one.
  size_t started_before(size_t count) {
    target->hold(true);
    modest.put(raw_data(wire::kRead, kNeighbourSector, {page.segment()}));
    run_on(rig.reactor, [&] {
      greedy.publish();
      modest.publish();
    });
    const auto held = target->await_held(count + 1);
    for (size_t i = 0; i < held.size(); i++)
      if (held[i].offset == kNeighbourSector * kSectorBytes) return i;
    return held.size();
  }
};

TEST_CASE("turn: a full ring takes 32 requests a turn") {
  if (!has_io_uring()) return;
  Neighbours both;
  for (uint64_t i = 0; i < kRingEntriesMax; i++)
    both.greedy.put(raw_data(wire::kRead, i * 8, {both.greedy_page.segment()}));
  CHECK(both.started_before(kRingEntriesMax) <= kTakeBatch);
}

TEST_CASE("turn: large requests end a turn sooner, when their data is enough") {
  if (!has_io_uring()) return;
  constexpr size_t kRequests = 32;
  Neighbours both;
  auto* segments = reinterpret_cast<xen_abi::Segment*>(both.greedy_page.data());
  GuestPage data(*both.greedy_guest);
  for (uint32_t i = 0; i < kIndirectSegmentsMax; i++) segments[i] = data.segment();
  for (uint64_t i = 0; i < kRequests; i++)
    both.greedy.put(raw_indirect(wire::kRead, i * 2048, 256, both.greedy_page.gref));
  CHECK(both.started_before(kRequests) <= kTurnBytes / kRequestBytesMax);
}

}  // namespace
}  // namespace ringdisk
