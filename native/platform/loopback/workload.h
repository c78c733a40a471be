// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "metrics/latency_histogram.h"

namespace ringdisk {

// What a guest does to its disk; LoopbackWorkload in src/datapath/binding.ts is the same.
struct Workload {
  enum class Operation : uint8_t {
    write,
    read,
    verify,  // read and compare with what `seed` wrote
    randwrite,
    randread,
    flush,
    discard,
    barrier,  // write with BLKIF_OP_WRITE_BARRIER: direct segments only
  };

  Operation operation = Operation::read;
  uint64_t block_bytes = 4096;  // per request; a multiple of 512
  uint32_t depth = 1;           // requests in flight per queue, at most the ring's entries
  // The region, bytes, multiples of 512: blocks from `offset` on, the last one cut off at its end.
  uint64_t offset = 0;
  uint64_t length = 0;
  // Without either the region is gone through once; flush: one request per queue.
  std::optional<uint64_t> bytes{};
  std::optional<uint64_t> milliseconds{};
  uint64_t seed = 0;
  // With requests in flight and no response for so long the backend counts as dead.
  uint64_t response_timeout_ms = 30'000;

  bool is_write() const {
    return operation == Operation::write || operation == Operation::randwrite ||
           operation == Operation::barrier;
  }
  bool is_random() const {
    return operation == Operation::randwrite || operation == Operation::randread;
  }
  bool moves_data() const {
    return operation != Operation::flush && operation != Operation::discard;
  }
};

// Shared by a running workload and whoever watches it. One per run, any thread.
struct WorkloadControl {
  std::atomic<bool> cancelled{false};
  std::atomic<uint64_t> requests{0};  // answered so far
  std::atomic<uint64_t> bytes{0};
};

// Of one queue, or of several added up.
struct WorkloadResult {
  uint64_t requests = 0;
  uint64_t bytes = 0;
  uint64_t errors = 0;      // answered with anything but BLKIF_RSP_OKAY
  uint64_t mismatches = 0;  // verify: blocks whose content, or what lies around it, is wrong
  double seconds = 0;
  uint64_t notifications_sent = 0;
  uint64_t notifications_received = 0;
  LatencyHistogram latency;

  void add(const WorkloadResult& other);
};

// A run of sectors, one request.
struct Block {
  uint64_t sector;
  uint64_t sector_count;
};

// The blocks of one queue, in order. Each queue has a share of the region of its own, and random
// order goes through the whole share before it comes back to a block: so a verify afterwards knows
// exactly what must be there.
class BlockSchedule {
 public:
  BlockSchedule(const Workload& workload, uint32_t queue_index, uint32_t queue_count);
  std::optional<Block> next();

 private:
  uint64_t region_sector_;
  uint64_t region_sectors_;
  uint64_t block_sectors_;
  uint64_t first_ = 0;      // block number where the share starts
  uint64_t count_ = 0;      // blocks in the share
  uint64_t remaining_ = 0;  // requests still to make
  uint64_t position_ = 0;   // within the share
  uint64_t stride_ = 1;
};

}  // namespace ringdisk
