// SPDX-License-Identifier: Apache-2.0
#include "ring/ring.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <vector>

#include "blkif_structs.h"

namespace ringdisk {
namespace {

// The frontend's half, played by hand in plain memory.
class SharedRing {
 public:
  explicit SharedRing(uint32_t pages, uint32_t start = 0) : bytes_(pages * kPageBytes / 8) {
    header() = {start, start + 1, start, start + 1, {}};
  }
  std::byte* address() { return reinterpret_cast<std::byte*>(bytes_.data()); }
  xen_abi::RingHeader& header() { return *reinterpret_cast<xen_abi::RingHeader*>(address()); }
  template <typename Entry>
  Entry& entry(uint32_t index) {
    return *reinterpret_cast<Entry*>(address() + sizeof(xen_abi::RingHeader) +
                                     index * sizeof(Entry));
  }

 private:
  std::vector<uint64_t> bytes_;
};

std::array<std::byte, wire::kEntryBytesMax> scratch;

TEST_CASE("ring: has 32 entries per page, a power of two") {
  for (const Abi abi : {Abi::x86_64, Abi::x86_32})
    for (uint32_t pages = 1; pages <= kRingPagesMax; pages *= 2) {
      SharedRing shared(pages);
      CHECK(Ring(shared.address(), abi, pages).entries() == 32 * pages);
    }
}

TEST_CASE("ring: entries lie where a frontend's compiler puts them") {
  SharedRing shared(kRingPagesMax);
  for (uint32_t i = 0; i < 512; i++)
    shared.entry<xen_abi::x86_64::Entry>(i).rw.id = 0x1'0000'0000ull + i;
  shared.header().req_prod = 512;
  Ring ring(shared.address(), Abi::x86_64, kRingPagesMax);
  for (uint32_t i = 0; i < 512; i++) {
    CHECK(ring.take(scratch) == i);
    xen_abi::x86_64::Entry taken;
    std::memcpy(&taken, scratch.data(), sizeof taken);
    CHECK(uint64_t{taken.rw.id} == 0x1'0000'0000ull + i);
  }
}

TEST_CASE("ring: 32-bit entries lie where a frontend's compiler puts them") {
  SharedRing shared(1);
  for (uint32_t i = 0; i < 32; i++) shared.entry<xen_abi::x86_32::Entry>(i).rw.id = 1000 + i;
  shared.header().req_prod = 32;
  Ring ring(shared.address(), Abi::x86_32, 1);
  for (uint32_t i = 0; i < 32; i++) {
    ring.take(scratch);
    xen_abi::x86_32::Entry taken;
    std::memcpy(&taken, scratch.data(), sizeof taken);
    CHECK(uint64_t{taken.rw.id} == 1000 + i);
  }
}

TEST_CASE("ring: counts what waits, up to all entries") {
  SharedRing shared(1);
  Ring ring(shared.address(), Abi::x86_64, 1);
  CHECK(ring.waiting() == 0);
  shared.header().req_prod = 1;
  CHECK(ring.waiting() == 1);
  shared.header().req_prod = 32;
  CHECK(ring.waiting() == 32);
  ring.take(scratch);
  CHECK(ring.waiting() == 31);
}

TEST_CASE("ring: rejects_producer_index_one_past_the_ring") {
  SharedRing shared(1);
  Ring ring(shared.address(), Abi::x86_64, 1);
  shared.header().req_prod = 33;
  CHECK(ring.waiting() == Ring::kImpossible);
}

TEST_CASE("ring: rejects_producer_index_that_overtakes_unanswered_requests") {
  SharedRing shared(1);
  shared.header().req_prod = 32;
  Ring ring(shared.address(), Abi::x86_64, 1);
  for (int i = 0; i < 32; i++) ring.take(scratch);
  CHECK(ring.waiting() == 0);
  shared.header().req_prod = 33;
  CHECK(ring.waiting() == Ring::kImpossible);
  ring.respond(0, 0, 0);  // one place is free again
  CHECK(ring.waiting() == 1);
}

TEST_CASE("ring: rejects_producer_index_that_went_backwards") {
  SharedRing shared(1);
  shared.header().req_prod = 5;
  Ring ring(shared.address(), Abi::x86_64, 1);
  for (int i = 0; i < 5; i++) ring.take(scratch);
  shared.header().req_prod = 4;
  CHECK(ring.waiting() == Ring::kImpossible);
  shared.header().req_prod = 0x8000'0000;
  CHECK(ring.waiting() == Ring::kImpossible);
}

TEST_CASE("ring: goes on where the published responses end, across 2^32") {
  for (const uint32_t start : {0u, 77u, UINT32_MAX - 3, UINT32_MAX}) {
    SharedRing shared(1, start);
    Ring ring(shared.address(), Abi::x86_64, 1);
    for (uint32_t i = 0; i < 100; i++) {
      const uint32_t index = start + i;
      shared.entry<xen_abi::x86_64::Entry>(index % 32).rw.id = i;
      shared.header().req_prod = index + 1;
      REQUIRE(ring.waiting() == 1);
      CHECK(ring.take(scratch) == index);
      CHECK(ring.respond(i, wire::kWrite, wire::kError) == index);
      ring.publish();
      CHECK(shared.header().rsp_prod == index + 1);
      const auto& response = shared.entry<xen_abi::x86_64::Entry>(index % 32).response;
      CHECK(uint64_t{response.id} == i);
      CHECK(response.operation == wire::kWrite);
      CHECK(int16_t{response.status} == wire::kError);
    }
  }
}

template <typename Entry>
void check_response_bytes(Abi abi) {
  SharedRing shared(1);
  std::memset(&shared.entry<Entry>(0), 0xee, sizeof(Entry));
  shared.header().req_prod = 1;
  Ring ring(shared.address(), abi, 1);
  ring.take(scratch);
  ring.respond(0x0102'0304'0506'0708, wire::kDiscard, wire::kNotSupported);
  decltype(Entry::response) expected{};
  expected.id = 0x0102'0304'0506'0708;
  expected.operation = 5;
  expected.status = -2;
  CHECK(std::memcmp(&shared.entry<Entry>(0), &expected, sizeof expected) == 0);
  // What lies behind the response is the guest's own request still.
  const auto* behind = reinterpret_cast<std::byte*>(&shared.entry<Entry>(0)) + sizeof expected;
  CHECK(*behind == std::byte{0xee});
}

TEST_CASE("ring: a response's padding is cleared and nothing else is touched") {
  check_response_bytes<xen_abi::x86_64::Entry>(Abi::x86_64);
  check_response_bytes<xen_abi::x86_32::Entry>(Abi::x86_32);
}

TEST_CASE("ring: responses are invisible until published, all at once") {
  SharedRing shared(1);
  shared.header().req_prod = 3;
  Ring ring(shared.address(), Abi::x86_64, 1);
  for (int i = 0; i < 3; i++) ring.take(scratch);
  for (int i = 0; i < 3; i++) ring.respond(0, 0, 0);
  CHECK(ring.has_unpublished());
  CHECK(shared.header().rsp_prod == 0);
  ring.publish();
  CHECK_FALSE(ring.has_unpublished());
  CHECK(shared.header().rsp_prod == 3);
}

TEST_CASE("ring: notifies when the awaited response is among the published") {
  struct Case {
    uint32_t rsp_event, responses;
    bool notify;
  };
  for (const uint32_t start : {0u, UINT32_MAX - 1}) {
    for (const Case& one : {Case{1, 1, true}, Case{1, 3, true}, Case{3, 3, true}, Case{4, 3, false},
                            Case{0, 3, false}, Case{2, 1, false}}) {
      SharedRing shared(1, start);
      Ring ring(shared.address(), Abi::x86_64, 1);
      shared.header().req_prod = start + one.responses;
      shared.header().rsp_event = start + one.rsp_event;
      for (uint32_t i = 0; i < one.responses; i++) ring.take(scratch);
      for (uint32_t i = 0; i < one.responses; i++) ring.respond(0, 0, 0);
      CHECK(ring.publish() == one.notify);
    }
  }
}

// What RING_PUSH_REQUESTS_AND_CHECK_NOTIFY does on the frontend's side.
bool frontend_would_notify(uint32_t before, uint32_t after, uint32_t req_event) {
  return after - req_event < after - before;
}

TEST_CASE("ring: armed, the next request notifies; held off, none does") {
  for (const uint32_t start : {0u, UINT32_MAX - 1, UINT32_MAX}) {
    SharedRing shared(1, start);
    Ring ring(shared.address(), Abi::x86_64, 1);
    ring.arm();
    CHECK(frontend_would_notify(start, start + 1, shared.header().req_event));
    CHECK(frontend_would_notify(start, start + 32, shared.header().req_event));
    CHECK_FALSE(frontend_would_notify(start + 1, start + 2, shared.header().req_event));
    ring.hold_off();
    CHECK_FALSE(frontend_would_notify(start, start + 1, shared.header().req_event));
    CHECK_FALSE(frontend_would_notify(start, start + 32, shared.header().req_event));
    CHECK_FALSE(frontend_would_notify(start + 31, start + 32, shared.header().req_event));
  }
}

}  // namespace
}  // namespace ringdisk
