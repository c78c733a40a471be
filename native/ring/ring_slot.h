// SPDX-License-Identifier: Apache-2.0
// A slot of a ring's: beside what the engine needs, what was asked and how it is answered. The
// journal's record of the same index holds the guest's bytes and the states that count for
// recovery.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "protocol/limits.h"
#include "protocol/request.h"
#include "request/slot.h"

namespace ringdisk {

struct RingSlot : Slot {
  uint64_t seen_ns = 0;  // when it was first seen in the ring; 0: its latency is not counted
  Request request;
  std::span<Segment> segments;
};

// Room for the segments of indirect requests, which costs nothing until it is used.
class SegmentArena {
 public:
  explicit SegmentArena(uint32_t slots);  // throws std::system_error
  ~SegmentArena();
  SegmentArena(const SegmentArena&) = delete;
  SegmentArena& operator=(const SegmentArena&) = delete;

  // Memory for `count` segments of `slot`: its own for direct requests.
  std::span<Segment> segments(RingSlot& slot, uint32_t count);

 private:
  using IndirectSegments = std::array<Segment, kIndirectSegmentsMax>;

  const uint32_t slots_;
  IndirectSegments* memory_ = nullptr;  // one per slot; pages appear when first written
};

}  // namespace ringdisk
