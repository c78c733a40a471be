// SPDX-License-Identifier: Apache-2.0
// What requests cost in memory: nothing from the heap, and of the bounce pool no more than a share.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <new>

#include "queue_rig.h"
#include "ring/queue.h"

namespace {

// Where this thread's allocations are counted; null: nowhere.
thread_local std::atomic<uint64_t>* allocation_count = nullptr;

// Out of line, or the compiler takes the pair for mismatched.
[[gnu::noinline]] void* counted(size_t bytes, size_t alignment) {
  if (allocation_count) ++*allocation_count;
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole == 0 ? alignment : whole);
  if (!memory) std::abort();
  return memory;
}

[[gnu::noinline]] void release(void* memory) { std::free(memory); }

}  // namespace

void* operator new(size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { release(memory); }

namespace ringdisk {
namespace {

constexpr uint32_t kIndirect = 32;

// One of everything a steady guest does.
void work(OneQueue& one, const std::vector<GuestPage>& pages, const GuestPage& list) {
  for (uint64_t i = 0; i < 4; i++) {
    one.frontend.put(raw_data(wire::kWrite, i * 8, {pages[i].segment(), pages[i + 1].segment()}));
    one.frontend.put(raw_data(wire::kRead, i * 8 + 1, {pages[i].segment(2, 3)}));
  }
  one.frontend.put(raw_indirect(wire::kWrite, 64, kIndirect, list.gref));
  one.frontend.put(raw_indirect(wire::kRead, 64, kIndirect, list.gref));
  one.frontend.put(raw_data(wire::kWriteBarrier, 8, {pages[0].segment(1, 1)}));
  one.frontend.put(raw_flush());
  one.frontend.put(raw_discard(256, 8));
  one.frontend.publish();
  for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
}

void check_no_allocations(GrantStrategy grants, uint32_t io_alignment) {
  QueueSettings settings;
  settings.grants = grants;
  OneQueue one(settings, io_alignment);
  std::vector<GuestPage> pages;
  for (uint32_t i = 0; i < kIndirect; i++) pages.emplace_back(*one.guest);
  GuestPage list(*one.guest);
  for (uint32_t i = 0; i < kIndirect; i++)
    reinterpret_cast<xen_abi::Segment*>(list.data())[i] = pages[i].segment();
  for (int i = 0; i < 20; i++) work(one, pages, list);  // warm
  std::atomic<uint64_t> count{0};
  run_on(one.rig.reactor, [&] {
    allocation_count = &count;
    ::operator delete(::operator new(1));
  });
  const uint64_t before = count;
  REQUIRE(before > 0);  // it does count
  for (int i = 0; i < 50; i++) work(one, pages, list);
  const uint64_t after = count;
  run_on(one.rig.reactor, [] { allocation_count = nullptr; });
  CHECK(after == before);
}

TEST_CASE("memory: a steady request allocates nothing, copied or direct") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants : {GrantStrategy::copy, GrantStrategy::persistent})
    for (const uint32_t io_alignment : {kSectorBytes, 4096u})
      check_no_allocations(grants, io_alignment);
}

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t all = 0;
  uint64_t resident = 0;
  file >> all >> resident;
  return resident * kPageBytes;
}

TEST_CASE("memory: a neighbour whose device hangs leaves enough bounce memory to work with") {
  if (!has_io_uring()) return;
  OneQueue one;  // its reactor has 8 MiB
  std::vector<std::unique_ptr<LoopbackDomain>> guests;
  std::vector<std::unique_ptr<RawFrontend>> frontends;
  std::vector<std::unique_ptr<ConnectedQueue>> queues;
  const auto hanging = std::make_shared<ScriptedTarget>(OneQueue::kDiskBytes);
  hanging->hold(true);
  size_t started = 0;
  // Three of them take all there is: 1 MiB requests, held until further notice.
  for (Domid domid = 2; domid < 5; domid++) {
    guests.push_back(one.rig.create_guest(domid));
    LoopbackDomain& guest = *guests.back();
    frontends.push_back(std::make_unique<RawFrontend>(guest, 1));
    queues.push_back(one.rig.connect(guest, *frontends.back(), hanging));
    GuestPage page(guest);
    GuestPage list(guest);
    for (int i = 0; i < 256; i++)
      reinterpret_cast<xen_abi::Segment*>(list.data())[i] = page.segment();
    for (int i = 0; i < 20; i++)
      frontends.back()->put(raw_indirect(wire::kRead, 0, 256, list.gref));
    frontends.back()->publish();
    one.settle();
    CHECK(hanging->held_count() > started);
    started = hanging->held_count();
  }
  CHECK(started <= 8 + 3);
  // Back-pressure, not errors: nobody was answered.
  for (const auto& frontend : frontends) CHECK_FALSE(frontend->has_answers());

  std::vector<GuestPage> pages;
  for (int i = 0; i < 11; i++) pages.emplace_back(*one.guest);
  std::vector<xen_abi::Segment> segments;
  for (const GuestPage& page : pages) segments.push_back(page.segment());
  for (int round = 1; round < 10; round++) {
    for (const GuestPage& page : pages) page.fill(round);
    for (uint64_t i = 0; i < 32; i++) one.frontend.put(raw_data(wire::kWrite, i * 88, segments));
    one.frontend.publish();
    for (const auto& [id, status] : one.frontend.all_answers()) REQUIRE(status == wire::kOkay);
    CHECK(one.target->at(32 * 88 * 512 - 1) == static_cast<std::byte>(round));
  }
  // The device comes back: everything that hung is answered.
  hanging->hold(false);
  for (const auto& held : hanging->await_held(0)) hanging->finish(one.rig.reactor, held);
  for (const auto& frontend : frontends)
    for (const auto& [id, status] : frontend->all_answers()) CHECK(status == wire::kOkay);
  // And what was taken beyond the pool is given back, whichever way the data went.
  const uint64_t before = resident_bytes();
  for (const auto& queue : queues) queue->pass(kGrantAgeUs);
  CHECK(before >= resident_bytes() + (2u << 20));
}

}  // namespace
}  // namespace ringdisk
