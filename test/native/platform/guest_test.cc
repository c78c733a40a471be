// SPDX-License-Identifier: Apache-2.0
// The loopback guest's frontend against a trivial backend: it does its work, and it notices what a
// backend may get wrong.
#include "platform/loopback/guest.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "echo_backend.h"
#include "platform/loopback/loopback_platform.h"
#include "platform/loopback/pattern.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

using Operation = Workload::Operation;

constexpr Domid kDomid = 3;
constexpr uint64_t kPage = kPageBytes;
constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kSeed = 20'26;

struct Setup {
  uint32_t queue_count = 1;
  uint32_t ring_page_order = 0;
  Abi abi = Abi::x86_64;
  uint32_t indirect_segments = 0;
  bool persistent = false;
};

// A guest whose queues are all served.
struct Connected {
  TempMachine machine;
  std::unique_ptr<Platform> platform = make_loopback_platform(machine.dir());
  LoopbackGuest guest{machine.dir(), kDomid, 16384};
  EchoDisk disk;
  std::vector<std::unique_ptr<EchoBackend>> backends;

  explicit Connected(const Setup& setup = {}) {
    disk.bytes.resize(kDiskBytes + kPageBytes);
    for (uint32_t i = 0; i < setup.queue_count; i++) {
      const auto transport = guest.create_queue(setup.ring_page_order, setup.abi);
      CHECK(transport.ring_refs.size() == 1u << setup.ring_page_order);
      backends.push_back(
          std::make_unique<EchoBackend>(*platform, kDomid, transport, setup.abi, disk));
    }
    guest.start(setup.indirect_segments, setup.persistent);
  }

  void set_fault(Fault fault) {
    for (const auto& backend : backends) backend->fault = fault;
  }
  // The disk is the backends' as long as they live: what orders their accesses and ours is the ring
  // in guest memory, which sanitizers cannot see through its two mappings.
  bool disk_holds(uint64_t seed) {
    const std::lock_guard lock(disk.mutex);
    for (uint64_t sector = 0; sector < kDiskBytes / kSectorBytes; sector++) {
      if (!sector_matches(&disk.bytes[sector * kSectorBytes], seed, sector)) return false;
    }
    return true;
  }
  void damage_disk(const std::function<void(std::byte*)>& damage) {
    const std::lock_guard lock(disk.mutex);
    damage(disk.bytes.data());
  }
  std::unique_ptr<WorkloadResult> run(const Workload& workload) {
    WorkloadControl control;
    return guest.run(workload, control);
  }
};

Workload a_workload(Operation operation, uint64_t block_bytes = 4096) {
  return {.operation = operation,
          .block_bytes = block_bytes,
          .depth = 8,
          .length = kDiskBytes,
          .seed = kSeed};
}

void check_clean(const WorkloadResult& result) {
  CHECK(result.errors == 0);
  CHECK(result.mismatches == 0);
  CHECK(result.latency.count() == result.requests);
}

TEST_CASE("what is written is found again, whatever was negotiated") {
  Setup setup;
  uint64_t block_bytes = 4096;
  SUBCASE("defaults") {}
  SUBCASE("x86_32") { setup.abi = Abi::x86_32; }
  SUBCASE("sixteen ring pages") { setup.ring_page_order = 4; }
  SUBCASE("x86_32, sixteen ring pages") { setup = {.ring_page_order = 4, .abi = Abi::x86_32}; }
  SUBCASE("several queues, persistent") { setup = {.queue_count = 4, .persistent = true}; }
  SUBCASE("one sector") { block_bytes = 512; }
  SUBCASE("an odd number of sectors") { block_bytes = 2560; }
  SUBCASE("more than a page, not in pages") { block_bytes = uint64_t{7} * 1536; }
  SUBCASE("eleven segments") { block_bytes = 11 * kPage; }
  SUBCASE("indirect") {
    setup.indirect_segments = 32;
    block_bytes = 12 * kPage;
  }
  SUBCASE("256 segments, x86_32, persistent") {
    setup = {.queue_count = 2, .abi = Abi::x86_32, .indirect_segments = 256, .persistent = true};
    block_bytes = 256 * kPage;
  }
  Connected connected(setup);
  const auto written = connected.run(a_workload(Operation::write, block_bytes));
  check_clean(*written);
  CHECK(written->bytes == kDiskBytes);
  CHECK(connected.disk_holds(kSeed));
  const auto verified = connected.run(a_workload(Operation::verify, block_bytes));
  check_clean(*verified);
  CHECK(verified->bytes == kDiskBytes);
  uint64_t indirect = 0;
  uint64_t offset = 0;
  for (const auto& backend : connected.backends) {
    indirect += backend->indirect_requests;
    offset += backend->offset_segments;
    if (!setup.persistent) CHECK(backend->writable_maps_refused > 0);
    if (setup.persistent) CHECK(backend->writable_maps_refused == 0);
  }
  CHECK((indirect > 0) == (block_bytes > 11 * kPage));
  CHECK((offset > 0) == (block_bytes % kPage != 0));
}

TEST_CASE("verify after random writes is exact") {
  Connected connected({.queue_count = 3});
  check_clean(*connected.run(a_workload(Operation::randwrite)));
  check_clean(*connected.run(a_workload(Operation::verify, 8192)));
  check_clean(*connected.run(a_workload(Operation::randread)));
}

TEST_CASE("barrier, flush and discard are carried out") {
  Connected connected({.queue_count = 2});
  const auto barriers = connected.run(a_workload(Operation::barrier));
  check_clean(*barriers);
  CHECK(barriers->requests == kDiskBytes / kPage);
  check_clean(*connected.run(a_workload(Operation::verify)));
  const auto flushes = connected.run(a_workload(Operation::flush));
  CHECK(flushes->requests == 2);
  CHECK(flushes->bytes == 0);
  const auto discards = connected.run(a_workload(Operation::discard, 1 << 18));
  CHECK(discards->requests == 4);
  CHECK(discards->bytes == kDiskBytes);
  CHECK(connected.run(a_workload(Operation::verify))->mismatches == kDiskBytes / kPage);
}

TEST_CASE("verify finds what is wrong") {
  Connected connected;
  check_clean(*connected.run(a_workload(Operation::write)));
  uint64_t expected = 1;
  Workload verify = a_workload(Operation::verify);
  SUBCASE("one flipped bit") {
    connected.damage_disk([](std::byte* disk) { disk[77'777] ^= std::byte{1}; });
  }
  SUBCASE("a sector in the wrong place") {
    connected.damage_disk([](std::byte* disk) { std::memcpy(disk + 8192, disk + 8704, 512); });
  }
  SUBCASE("a torn sector") {
    connected.damage_disk([](std::byte* disk) { std::memset(disk + 4352, 0, 256); });
  }
  SUBCASE("what another seed wrote") {
    connected.damage_disk([](std::byte* disk) { fill_sector(disk, kSeed + 1, 0); });
  }
  SUBCASE("misplaced writes") {
    connected.set_fault(Fault::misplaced_write);
    connected.run(a_workload(Operation::write));
    expected = kDiskBytes / kPage;
  }
  SUBCASE("a read that writes behind its last sector") {
    connected.set_fault(Fault::write_past_sector);
    verify.block_bytes = 512;
    verify.length = uint64_t{8} * 512;
    expected = 7;  // first_sect goes round: one of eight ends with its page
  }
  SUBCASE("lost writes of new content") {
    connected.set_fault(Fault::lost_write);
    Workload rewrite = a_workload(Operation::write);
    rewrite.seed = verify.seed = kSeed + 1;
    connected.run(rewrite);
    expected = kDiskBytes / kPage;
  }
  CHECK(connected.run(verify)->mismatches == expected);
}

TEST_CASE("error responses are counted and do not stop the workload") {
  Connected connected;
  connected.set_fault(Fault::error_status);
  const auto result = connected.run(a_workload(Operation::read));
  CHECK(result->errors == result->requests);
  CHECK(result->requests == kDiskBytes / kPage);
}

TEST_CASE("a backend that breaks the protocol is found out") {
  Connected connected;
  SUBCASE("page still mapped") { connected.set_fault(Fault::keep_mapped); }
  SUBCASE("unknown id") { connected.set_fault(Fault::unknown_id); }
  SUBCASE("wrong operation") { connected.set_fault(Fault::wrong_operation); }
  SUBCASE("impossible response index") { connected.set_fault(Fault::response_flood); }
  CHECK_THROWS_AS(connected.run(a_workload(Operation::write)), std::runtime_error);
  connected.set_fault(Fault::none);
  CHECK_THROWS_AS(connected.run(a_workload(Operation::write)), std::runtime_error);
}

TEST_CASE("persistent grants may stay mapped") {
  Connected connected({.persistent = true});
  connected.set_fault(Fault::keep_mapped);
  check_clean(*connected.run(a_workload(Operation::write)));
}

TEST_CASE("a dead backend ends the workload with an error, not a hang") {
  Connected connected({.queue_count = 2});
  connected.backends[1]->fault = Fault::silence;
  Workload workload = a_workload(Operation::write);
  workload.response_timeout_ms = 100;
  CHECK_THROWS_WITH_AS(connected.run(workload),
                       doctest::Contains("no response from the backend in 100 ms"),
                       std::runtime_error);
}

TEST_CASE("a workload stops when told") {
  Connected connected({.queue_count = 2, .persistent = true});
  Workload workload = a_workload(Operation::randwrite);
  WorkloadControl control;
  SUBCASE("after so many bytes, more than the region") {
    workload.bytes = 3 * kDiskBytes;
    CHECK(connected.guest.run(workload, control)->bytes == 3 * kDiskBytes);
  }
  SUBCASE("after so many bytes, less than the region") {
    workload.bytes = 10 * kPage;
    CHECK(connected.guest.run(workload, control)->requests == 10);
  }
  SUBCASE("after so long") {
    workload.milliseconds = 50;
    const auto result = connected.guest.run(workload, control);
    CHECK(result->seconds >= 0.05);
    CHECK(result->requests == control.requests);
    CHECK(result->bytes == control.bytes);
  }
  SUBCASE("when cancelled") {
    workload.milliseconds = 60'000;
    std::jthread canceller([&] {
      while (control.requests < 100) std::this_thread::yield();
      control.cancelled = true;
    });
    CHECK(connected.guest.run(workload, control)->seconds < 30);
  }
}

TEST_CASE("nothing stays in use after a disconnect, and new queues may follow") {
  Connected connected({.queue_count = 2, .ring_page_order = 2, .persistent = true});
  check_clean(*connected.run(a_workload(Operation::write)));
  CHECK(connected.guest.grants_in_use() == 8);
  connected.backends.clear();
  CHECK(connected.guest.grants_in_use() == 0);
  connected.guest.destroy_queues();
  const auto transport = connected.guest.create_queue(0, Abi::x86_32);
  EchoBackend backend(*connected.platform, kDomid, transport, Abi::x86_32, connected.disk);
  connected.guest.start(0, false);
  check_clean(*connected.run(a_workload(Operation::verify)));
}

TEST_CASE("impossible workloads and queues are refused") {
  Connected connected;
  Workload workload = a_workload(Operation::write);
  SUBCASE("block of no bytes") { workload.block_bytes = 0; }
  SUBCASE("block of half a sector") { workload.block_bytes = 256; }
  SUBCASE("block beyond the segments") { workload.block_bytes = 12 * kPage; }
  SUBCASE("no depth") { workload.depth = 0; }
  SUBCASE("no region") { workload.length = 0; }
  SUBCASE("region beyond any disk") { workload.offset = UINT64_MAX - 511; }
  CHECK_THROWS_AS(connected.run(workload), std::invalid_argument);
  CHECK_THROWS_AS(connected.guest.create_queue(5, Abi::x86_64), std::invalid_argument);
}

}  // namespace
}  // namespace ringdisk
