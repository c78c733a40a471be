// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/workload.h"

#include <doctest/doctest.h>

#include <set>

#include "base/units.h"

namespace ringdisk {
namespace {

using Operation = Workload::Operation;

constexpr uint64_t kPage = kPageBytes;

Workload a_workload(Operation operation, uint64_t block_bytes, uint64_t length) {
  return {.operation = operation, .block_bytes = block_bytes, .length = length, .seed = 99};
}

// Every sector the schedules of all queues touch, with how often.
std::multiset<uint64_t> sectors_touched(const Workload& workload, uint32_t queue_count) {
  std::multiset<uint64_t> touched;
  for (uint32_t queue = 0; queue < queue_count; queue++) {
    BlockSchedule schedule(workload, queue, queue_count);
    while (const auto block = schedule.next()) {
      CHECK(block->sector_count <= workload.block_bytes / kSectorBytes);
      for (uint64_t i = 0; i < block->sector_count; i++) touched.insert(block->sector + i);
    }
  }
  return touched;
}

TEST_CASE("one pass touches every sector of the region exactly once") {
  for (const Operation operation : {Operation::write, Operation::randwrite, Operation::discard}) {
    for (const uint32_t queue_count : {1u, 2u, 3u, 16u}) {
      for (const uint64_t blocks : {1u, 2u, 5u, 64u, 97u}) {
        Workload workload = a_workload(operation, 1536, blocks * 1536 - 512);
        workload.offset = 4608;
        const auto touched = sectors_touched(workload, queue_count);
        CHECK(touched.size() == workload.length / kSectorBytes);
        for (uint64_t i = 0; i < touched.size(); i++) CHECK(touched.count(9 + i) == 1);
      }
    }
  }
}

TEST_CASE("random order is not the order of the disk") {
  BlockSchedule schedule(a_workload(Operation::randread, 4096, 1 << 20), 0, 1);
  uint64_t neighbours = 0;
  uint64_t before = 0;
  while (const auto block = schedule.next()) {
    if (block->sector == before + kSectorsPerPage) neighbours++;
    before = block->sector;
  }
  CHECK(neighbours == 0);
}

TEST_CASE("a bound on bytes is shared by the queues and may pass the region several times") {
  Workload workload = a_workload(Operation::write, 4096, 16 * kPage);
  workload.bytes = 37 * kPage - 1;
  CHECK(sectors_touched(workload, 3).size() == 37 * kSectorsPerPage);
}

TEST_CASE("a timed workload never runs out of blocks") {
  Workload workload = a_workload(Operation::read, 4096, 2 * kPage);
  workload.milliseconds = 1;
  BlockSchedule schedule(workload, 0, 1);
  for (uint64_t i = 0; i < 100; i++) {
    const auto block = schedule.next();
    CHECK(block.value_or(Block{}).sector_count == kSectorsPerPage);
    CHECK(block.value_or(Block{}).sector == i % 2 * kSectorsPerPage);
  }
}

TEST_CASE("flush: one per queue, or as many as time allows") {
  Workload workload = a_workload(Operation::flush, 0, 0);
  for (uint32_t queue = 0; queue < 2; queue++) {
    BlockSchedule schedule(workload, queue, 2);
    CHECK(schedule.next().has_value());
    CHECK_FALSE(schedule.next().has_value());
  }
  workload.milliseconds = 1;
  BlockSchedule timed(workload, 1, 2);
  for (int i = 0; i < 10; i++) CHECK(timed.next().has_value());
}

}  // namespace
}  // namespace ringdisk
