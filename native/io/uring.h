// SPDX-License-Identifier: Apache-2.0
// One io_uring per reactor: reserve, submit a batch, reap into a list, sleep. Knows operations only
// by their address; what a completion means is the channel's business.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <span>

#include "io/operation.h"

namespace ringdisk {

// What the running kernel's io_uring offers, probed once; also printed by `ringdisk doctor`.
struct UringFeatures {
  bool available = false;
  int error = 0;              // errno of the first set-up when not available
  bool single_issuer = false;
  bool defer_taskrun = false;
  bool coop_taskrun = false;
  bool big_entries = false;   // SQE128 + CQE32: NVMe passthrough needs them
  bool uring_cmd = false;
  bool block_discard = false; // kernel >= 6.12: discard of block devices as a uring command
};
UringFeatures probe_uring();

// Completions of the reactor's own business, told apart from Operation addresses by being small.
enum class Wakeup : uint64_t { event_channel = 1, mailbox = 2, ignore = 3 };

class Uring {
 public:
  explicit Uring(const UringFeatures& features);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  const UringFeatures& features() const { return features_; }

  // Never fails: a full submission queue is submitted first. Zeroed, 128 bytes if big_entries.
  io_uring_sqe* reserve();
  io_uring_sqe* reserve_for(Operation& operation) {
    io_uring_sqe* sqe = reserve();
    operation_pending_ = true;
    sqe->user_data = reinterpret_cast<uint64_t>(&operation);
    return sqe;
  }
  // Keeps reporting `wakeup` whenever `fd` becomes readable.
  void watch(int fd, Wakeup wakeup);

  // Submits what was reserved and runs the kernel's deferred work if there is any. No syscall when
  // there is neither.
  void submit();
  // Submits and sleeps until a completion or `timeout_us` (UINT64_MAX: for ever).
  void sleep(uint64_t timeout_us);

  struct Reaped {
    Operation* operations = nullptr;  // linked by next, in completion order; part_result is set
    bool event_channel = false;
    bool mailbox = false;
  };
  Reaped reap();

  // Registers one memory region as fixed buffer 0. Returns false where the kernel refuses.
  bool register_buffer(std::span<std::byte> memory);

  struct Counters {
    uint64_t enter_calls = 0;
    uint64_t submissions = 0;
    uint64_t sleeps = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  void rearm(Wakeup wakeup);

  UringFeatures features_;
  io_uring ring_{};
  int watched_fds_[4] = {-1, -1, -1, -1};  // by Wakeup
  bool operation_pending_ = false;
  Counters counters_;
};

}  // namespace ringdisk
