// SPDX-License-Identifier: Apache-2.0
// A queue whose frontend means harm: every lie costs that frontend an error or its ring, and
// nobody else anything.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "eventually.h"
#include "platform/loopback/machine.h"
#include "queue_rig.h"
#include "ring/queue.h"

namespace ringdisk {
namespace {

QueueSettings with(GrantStrategy grants) {
  QueueSettings settings;
  settings.grants = grants;
  return settings;
}

constexpr GrantStrategy kStrategies[] = {GrantStrategy::copy, GrantStrategy::map,
                                         GrantStrategy::persistent};

// The queue still serves: the usual end of a test that gave it rubbish.
void check_alive(OneQueue& one) {
  GuestPage page(*one.guest);
  page.fill(0x3c);
  CHECK(one.frontend.ask(raw_data(wire::kWrite, 16, {page.segment()})) == wire::kOkay);
  page.fill(0);
  CHECK(one.frontend.ask(raw_data(wire::kRead, 16, {page.segment()})) == wire::kOkay);
  CHECK(page.is_filled(0x3c));
}

void check_breaks_ring(OneQueue& one, uint32_t req_prod) {
  RawFrontend::store(one.frontend.header().req_prod, req_prod);
  one.frontend.notify();
  REQUIRE(eventually([&] { return one.queue->broken == 1; }));
  CHECK(one.queue->counters().broken.get() == 1);
  // Nothing is ever taken again, whatever the index says now.
  RawFrontend::store(one.frontend.header().req_prod, 1);
  for (int i = 0; i < 20; i++) one.frontend.notify();
  one.settle();
  CHECK(one.queue->broken == 1);
  CHECK(RawFrontend::load(one.frontend.header().rsp_prod) == 0);
}

TEST_CASE("queue: a producer index that cannot be breaks the ring, once") {
  if (!has_io_uring()) return;
  for (const uint32_t req_prod : {33u, 1000u, 0x8000'0000u, UINT32_MAX - 1, UINT32_MAX}) {
    OneQueue one;
    check_breaks_ring(one, req_prod);
  }
}

TEST_CASE("queue: a producer index that goes backwards breaks the ring; taken requests finish") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  for (int i = 0; i < 4; i++) one.frontend.put(raw_data(wire::kRead, 0, {page.segment()}));
  one.frontend.publish();
  const auto held = one.target->await_held(4);
  RawFrontend::store(one.frontend.header().req_prod, 2);
  one.frontend.notify();
  REQUIRE(eventually([&] { return one.queue->broken == 1; }));
  for (const auto& operation : held) one.finish(operation);
  for (const auto& [id, status] : one.frontend.all_answers()) CHECK(status == wire::kOkay);
}

TEST_CASE("queue: a broken ring uses no CPU") {
  if (!has_io_uring()) return;
  OneQueue one;
  check_breaks_ring(one, 5000);
  const uint64_t wakeups = one.rig.reactor.counters().wakeups.get();
  for (int i = 0; i < 1000; i++) one.frontend.notify();
  one.settle();  // wakes it three times, by its mailbox
  CHECK(one.rig.reactor.counters().wakeups.get() <= wakeups + 8);
}

TEST_CASE("queue: unknown operations are not supported, whatever their number") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  for (int operation = 4; operation < 256; operation++) {
    if (operation == wire::kDiscard || operation == wire::kIndirect) continue;
    one.frontend.put(raw_data(static_cast<uint8_t>(operation), 0, {page.segment()}));
    if (operation % 32 != 31) continue;
    one.frontend.publish();
    for (const auto& [id, status] : one.frontend.all_answers())
      CHECK(status == wire::kNotSupported);
  }
  CHECK(one.queue->counters().unsupported.get() == 250);
  check_alive(one);
}

TEST_CASE("queue: bad numbers of segments are errors") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage list(*one.guest);
  for (const uint8_t operation : {wire::kRead, wire::kWrite})
    for (const int count : {0, 12, 255}) {
      RawRequest request = raw_data(operation, 0, {});
      request.count = static_cast<uint8_t>(count);
      CHECK(one.frontend.ask(request) == wire::kError);
    }
  for (const int count : {0, 257, 4096, 65535})
    CHECK(one.frontend.ask(raw_indirect(wire::kRead, 0, static_cast<uint16_t>(count), list.gref)) ==
          wire::kError);
  for (const int operation : {2, 3, 5, 6, 255})
    CHECK(one.frontend.ask(raw_indirect(static_cast<uint8_t>(operation), 0, 1, list.gref)) ==
          wire::kError);
  CHECK(one.guest->grants_in_use() == 1);  // the ring: none of them had anything mapped
  check_alive(one);
}

TEST_CASE("queue: segments and sectors that lie outside are errors") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  const auto ask = [&](uint64_t sector, uint8_t first, uint8_t last) {
    return one.frontend.ask(raw_data(wire::kRead, sector, {page.segment(first, last)}));
  };
  CHECK(ask(0, 1, 0) == wire::kError);
  CHECK(ask(0, 0, 8) == wire::kError);
  CHECK(ask(0, 8, 8) == wire::kError);
  CHECK(ask(0, 255, 255) == wire::kError);
  CHECK(ask(0, 0, 255) == wire::kError);
  CHECK(ask(OneQueue::kDiskSectors - 8, 0, 7) == wire::kOkay);
  CHECK(ask(OneQueue::kDiskSectors - 7, 0, 7) == wire::kError);
  CHECK(ask(OneQueue::kDiskSectors, 0, 0) == wire::kError);
  CHECK(ask(UINT64_MAX, 0, 0) == wire::kError);
  CHECK(ask(UINT64_MAX - 7, 0, 7) == wire::kError);
  CHECK(ask(1ull << 55, 0, 7) == wire::kError);
  check_alive(one);
}

TEST_CASE("queue: grants that do not exist, or only read, are errors") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies) {
    OneQueue one(with(grants));
    GuestPage good(*one.guest);
    GuestPage readonly(*one.guest, true);
    GuestPage revoked(*one.guest);
    REQUIRE(one.guest->revoke(revoked.gref));
    for (const GrantRef bad : {GrantRef{0}, revoked.gref, GrantRef{100'000}, UINT32_MAX})
      for (const uint8_t operation : {wire::kRead, wire::kWrite}) {
        const xen_abi::Segment segment{bad, 0, 7, 0};
        CHECK(one.frontend.ask(raw_data(operation, 0, {segment})) == wire::kError);
        CHECK(one.frontend.ask(raw_data(operation, 0, {good.segment(), segment})) == wire::kError);
        CHECK(one.frontend.ask(raw_indirect(operation, 0, 1, bad)) == wire::kError);
      }
    // A page granted for reading may be written to the disk, but not read into.
    readonly.fill(0x44);
    CHECK(one.frontend.ask(raw_data(wire::kWrite, 0, {readonly.segment()})) == wire::kOkay);
    CHECK(one.target->at(4095) == std::byte{0x44});
    CHECK(one.frontend.ask(raw_data(wire::kRead, 8, {readonly.segment()})) == wire::kError);
    CHECK(readonly.is_filled(0x44));
    check_alive(one);
  }
}

TEST_CASE("queue: an indirect page full of rubbish is an error") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies) {
    OneQueue one(with(grants));
    GuestPage list(*one.guest);
    list.fill(0xff);
    CHECK(one.frontend.ask(raw_indirect(wire::kWrite, 0, 256, list.gref)) == wire::kError);
    list.fill(0);
    CHECK(one.frontend.ask(raw_indirect(wire::kWrite, 0, 256, list.gref)) == wire::kError);
    // It may name itself, or the ring: that is the guest's own memory.
    auto* segments = reinterpret_cast<xen_abi::Segment*>(list.data());
    for (int i = 0; i < 256; i++) segments[i] = list.segment();
    CHECK(one.frontend.ask(raw_indirect(wire::kWrite, 0, 256, list.gref)) == wire::kOkay);
    for (int i = 0; i < 256; i++) segments[i] = {one.frontend.ring_refs[0], 7, 7, 0};
    CHECK(one.frontend.ask(raw_indirect(wire::kWrite, 0, 256, list.gref)) == wire::kOkay);
    check_alive(one);
  }
}

TEST_CASE("queue: a read-only disk refuses every change, discards included") {
  if (!has_io_uring()) return;
  QueueSettings settings;
  settings.geometry.read_only = true;
  OneQueue one(settings);
  GuestPage page(*one.guest);
  page.fill(1);
  for (const uint8_t operation : {wire::kWrite, wire::kWriteBarrier, wire::kFlushDiskcache})
    CHECK(one.frontend.ask(raw_data(operation, 0, {page.segment()})) == wire::kError);
  CHECK(one.frontend.ask(raw_discard(0, 8)) == wire::kError);
  CHECK(one.frontend.ask(raw_flush()) == wire::kOkay);
  CHECK(one.frontend.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
  CHECK(page.is_filled(0));
}

TEST_CASE("queue: discards that were not offered are not supported") {
  if (!has_io_uring()) return;
  OneQueue secure;
  CHECK(secure.frontend.ask(raw_discard(0, 8, wire::kDiscardSecure)) == wire::kNotSupported);
  CHECK(secure.frontend.ask(raw_discard(0, 0)) == wire::kError);
  CHECK(secure.frontend.ask(raw_discard(1, UINT64_MAX)) == wire::kError);
  CHECK(secure.frontend.ask(raw_discard(0, OneQueue::kDiskSectors)) == wire::kOkay);
  QueueSettings settings;
  settings.geometry.discard = false;
  settings.geometry.indirect_segments_max = 0;
  OneQueue none(settings);
  GuestPage list(*none.guest);
  CHECK(none.frontend.ask(raw_discard(0, 8)) == wire::kNotSupported);
  CHECK(none.frontend.ask(raw_indirect(wire::kRead, 0, 1, list.gref)) == wire::kNotSupported);
}

TEST_CASE("queue: rubbish costs its sender time, not others") {
  if (!has_io_uring()) return;
  OneQueue one;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; i++) CHECK(one.frontend.ask(raw_data(77, 0, {})) == wire::kNotSupported);
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(19));
}

// A storm without requests: after a few vain wake-ups the port is unmasked late, so that the number
// taken in half a second is bounded, by 3 at once and then one per delay up to 64 ms.
TEST_CASE("queue: a storm of events is slowed down, and requests in it are still answered") {
  if (!has_io_uring()) return;
  OneQueue one;
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop) one.frontend.notify();
  });
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
  while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
  CHECK(one.queue->counters().notifications_received.get() <= 40);
  CHECK(one.rig.reactor.counters().wakeups.get() <= 120);
  for (int i = 0; i < 5; i++) check_alive(one);
  stop = true;
  storm.join();
}

// The guest's memory once more, as its second CPU sees it: a mapping of its own, because to the
// sanitizers two threads at one address are a defect even where they are the test.
class SecondView {
 public:
  SecondView(const std::string& machine_dir, LoopbackDomain& guest)
      : guest_(guest), bytes_(size_t{guest.page_count()} * kPageBytes) {
    const Fd file(::open(memory_path(domain_dir(machine_dir, guest.domid())).c_str(), O_RDWR));
    memory_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    REQUIRE(memory_ != MAP_FAILED);
  }
  ~SecondView() { ::munmap(memory_, bytes_); }
  std::byte* of(const std::byte* address) const {
    return static_cast<std::byte*>(memory_) + (address - guest_.page(0));
  }

 private:
  LoopbackDomain& guest_;
  size_t bytes_;
  void* memory_;
};

// Mostly plausible, or everything would stop at the first rule.
void scribble(std::byte* ring, std::byte* list, const std::atomic<bool>& stop) {
  std::mt19937 random(5);
  std::byte* entries = ring + sizeof(xen_abi::RingHeader);
  auto* segments = reinterpret_cast<xen_abi::Segment*>(list);
  while (!stop) {
    std::byte* entry = entries + random() % 32 * 112;
    entry[0] = static_cast<std::byte>(random() % 8);   // operation
    entry[1] = static_cast<std::byte>(random() % 14);  // nr_segments, indirect_op
    entry[random() % 112] = static_cast<std::byte>(random());
    xen_abi::Segment& segment = segments[random() % 256];
    segment.first_sect = static_cast<uint8_t>(random() % 9);
    segment.last_sect = static_cast<uint8_t>(random() % 9);
    if (random() % 16 == 0) segment.gref = static_cast<uint32_t>(random());
  }
}

TEST_CASE("queue: bytes that change under its feet do no harm") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : kStrategies) {
    OneQueue one(with(grants));
    GuestPage page(*one.guest);
    GuestPage list(*one.guest);
    auto* segments = reinterpret_cast<xen_abi::Segment*>(list.data());
    for (int i = 0; i < 256; i++) segments[i] = page.segment();
    std::atomic<bool> stop{false};
    const SecondView view(one.rig.machine_dir(), *one.guest);
    std::thread scribbler(
        [&] { scribble(view.of(one.frontend.shared()), view.of(list.data()), stop); });
    std::mt19937 random(6);
    for (int batch = 0; batch < 100; batch++) {
      for (int i = 0; i < 32; i++) {
        if (random() % 2 == 0)
          one.frontend.put(raw_data(static_cast<uint8_t>(random() % 4), random() % 1000,
                                    {page.segment(), page.segment(2, 3)}));
        else
          one.frontend.put(raw_indirect(static_cast<uint8_t>(random() % 2), random() % 1000,
                                        static_cast<uint16_t>(1 + random() % 256), list.gref));
      }
      one.frontend.publish();
      for (int i = 0; i < 32; i++) {
        // Even the answers may be overwritten: that frontend harms itself. Only count them.
        one.frontend.take_unchecked();
      }
    }
    stop = true;
    scribbler.join();
    CHECK(one.queue->broken == 0);
    one.frontend.forget();
    for (int i = 0; i < 256; i++) segments[i] = page.segment();
    check_alive(one);
  }
}

TEST_CASE("queue: a neighbour on the same reactor and target keeps its data and its speed") {
  if (!has_io_uring()) return;
  OneQueue one;
  const auto evil_guest = one.rig.create_guest(66);
  RawFrontend evil(*evil_guest, 1);
  const auto evil_queue = one.rig.connect(*evil_guest, evil, one.target);
  std::atomic<bool> stop{false};
  std::thread attacker([&] {
    std::mt19937 random(3);
    while (!stop) {
      for (int i = 0; i < 16; i++) {
        RawRequest request = raw_data(static_cast<uint8_t>(random() % 12), random(), {});
        request.count = static_cast<uint8_t>(random());
        // Reads and rejections only: the target is the neighbour's too.
        if (request.operation != wire::kRead) request.count = 200;
        if (request.operation == wire::kDiscard) request.operation = 9;
        evil.put(request);
      }
      evil.publish();
      evil.notify();
      for (int i = 0; i < 16 && !stop; i++) evil.take_unchecked();
    }
  });
  std::vector<GuestPage> pages;
  for (int i = 0; i < 8; i++) pages.emplace_back(*one.guest);
  for (int round = 1; round < 100; round++) {
    for (uint64_t i = 0; i < 8; i++) {
      pages[i].fill(round);
      one.frontend.put(raw_data(wire::kWrite, i * 8, {pages[i].segment()}));
    }
    one.frontend.publish();
    for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
    for (uint64_t i = 0; i < 8; i++) {
      pages[i].fill(0);
      one.frontend.put(raw_data(wire::kRead, i * 8, {pages[i].segment()}));
    }
    one.frontend.publish();
    for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
    for (const GuestPage& page : pages) REQUIRE(page.is_filled(round));
  }
  // On a busy machine the attacker may hardly have begun.
  CHECK(eventually([&] { return evil_queue->counters().unsupported.get() > 0; }));
  stop = true;
  attacker.join();
  CHECK(one.queue->counters().rejected.get() == 0);
}

}  // namespace
}  // namespace ringdisk
