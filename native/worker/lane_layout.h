// SPDX-License-Identifier: Apache-2.0
// The shared memory between one channel of the data path and the worker that waits for the medium:
// two rings of one producer and one consumer each, and a window for the data. Both sides are ours;
// each still checks what it reads, so that a fault of one is not a fault of both.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/units.h"
#include "medium/block_map.h"
#include "medium/lane_call.h"

namespace ringdisk {

// So many calls of one channel are with the worker at most; more wait in the channel.
inline constexpr uint32_t kLaneEntries = 64;
inline constexpr uint32_t kLaneWindowBytes = 8u << 20;
inline constexpr uint32_t kLaneWindowPages = kLaneWindowBytes / kPageBytes;
// One call carries no more; what is longer takes several, one after the other.
inline constexpr uint32_t kLaneCallBytesMax = 2u << 20;

inline bool uses_window(LaneCall call) { return moves_data(call) || maps(call); }
// Of a call that does, with `length` bytes on the medium.
inline uint64_t window_bytes(LaneCall call, uint64_t length) {
  return maps(call) ? kMapBytes : length;
}

struct LaneCompletion {
  uint32_t tag;
  int32_t result;  // bytes, 0, or -errno
};

struct LaneHeader {
  // Free-running counts. Each is written by one side only.
  alignas(64) std::atomic<uint32_t> submitted;  // the channel's
  alignas(64) std::atomic<uint32_t> completed;  // the worker's
  // The channel's reactor is about to sleep: whoever completes next takes this and rings.
  alignas(64) std::atomic<uint32_t> armed;
  // The channel's queue closes: discards that have not begun are not begun.
  std::atomic<uint32_t> no_discards;
  alignas(64) LaneSubmission submissions[kLaneEntries];
  LaneCompletion completions[kLaneEntries];
};

inline constexpr size_t kLaneHeaderBytes =
    (sizeof(LaneHeader) + kPageBytes - 1) / kPageBytes * kPageBytes;
inline constexpr size_t kLaneBytes = kLaneHeaderBytes + kLaneWindowBytes;
static_assert((kLaneEntries & (kLaneEntries - 1)) == 0);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

inline constexpr uint32_t kWorkerThreadsMax = 32;

// One page for the whole worker: how it is woken, and what it is doing.
struct WorkerPage {
  // A futex: rung by whoever submits while somebody is idle.
  alignas(64) std::atomic<uint32_t> bell;
  alignas(64) std::atomic<uint32_t> idle;  // threads that wait for the bell
  // What each thread is doing: LaneCall + 1, 0 for nothing; and since when, CLOCK_MONOTONIC us.
  struct Doing {
    std::atomic<uint32_t> call;
    std::atomic<uint64_t> since_us;
  };
  alignas(64) Doing doing[kWorkerThreadsMax];
  alignas(64) std::atomic<uint64_t> device_flushes;
  std::atomic<uint64_t> answered;  // calls
};
static_assert(sizeof(WorkerPage) <= kPageBytes);

}  // namespace ringdisk
