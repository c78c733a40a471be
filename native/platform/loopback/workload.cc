// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/workload.h"

#include <algorithm>
#include <numeric>

#include "base/assert.h"
#include "base/units.h"

namespace ringdisk {

namespace {

// Where part `index` of `count` equal parts of `whole` starts. __int128: whole * index may
// overflow.
uint64_t part_start(uint64_t whole, uint32_t index, uint32_t count) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(whole) * index / count);
}

// A step through `count` blocks that visits each once and lands far from where it was.
uint64_t scattered_stride(uint64_t count) {
  auto stride = std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(count) * 0.618));
  while (std::gcd(stride, count) != 1) stride++;
  return stride;
}

}  // namespace

void WorkloadResult::add(const WorkloadResult& other) {
  requests += other.requests;
  bytes += other.bytes;
  errors += other.errors;
  mismatches += other.mismatches;
  seconds = std::max(seconds, other.seconds);
  notifications_sent += other.notifications_sent;
  notifications_received += other.notifications_received;
  latency.merge(other.latency);
}

BlockSchedule::BlockSchedule(const Workload& workload, uint32_t queue_index, uint32_t queue_count)
    : region_sector_(workload.offset / kSectorBytes),
      region_sectors_(workload.length / kSectorBytes),
      block_sectors_(workload.block_bytes / kSectorBytes) {
  RD_ASSERT(queue_index < queue_count);
  if (workload.operation == Workload::Operation::flush) {
    count_ = 1;
    remaining_ = workload.milliseconds ? UINT64_MAX : 1;
    return;
  }
  RD_ASSERT(block_sectors_ > 0);
  const uint64_t blocks = (region_sectors_ + block_sectors_ - 1) / block_sectors_;
  // A region of fewer blocks than queues leaves the last queues idle.
  const auto sharers = static_cast<uint32_t>(std::min<uint64_t>(queue_count, blocks));
  if (queue_index >= sharers) return;
  first_ = part_start(blocks, queue_index, sharers);
  count_ = part_start(blocks, queue_index + 1, sharers) - first_;
  remaining_ = count_;
  if (workload.milliseconds) remaining_ = UINT64_MAX;
  if (workload.bytes) {
    const uint64_t total =
        *workload.bytes / workload.block_bytes + (*workload.bytes % workload.block_bytes != 0);
    remaining_ =
        part_start(total, queue_index + 1, sharers) - part_start(total, queue_index, sharers);
  }
  if (workload.is_random()) {
    stride_ = scattered_stride(count_);
    position_ = workload.seed % count_;
  }
}

std::optional<Block> BlockSchedule::next() {
  if (remaining_ == 0) return std::nullopt;
  remaining_--;
  const uint64_t start = (first_ + position_) * block_sectors_;
  position_ = (position_ + stride_) % count_;
  return Block{region_sector_ + start, std::min(block_sectors_, region_sectors_ - start)};
}

}  // namespace ringdisk
