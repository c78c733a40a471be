// SPDX-License-Identifier: Apache-2.0
// One io_uring per reactor: reserve, submit a batch, reap into a list, sleep. Knows operations only
// by their address; what a completion means is the channel's business.
#pragma once

#include <liburing.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "io/operation.h"

namespace ringdisk {

// What the running kernel's io_uring offers, probed once; also printed by `ringdisk doctor`.
struct UringFeatures {
  bool available = false;
  int error = 0;             // errno of the first set-up when not available
  uint32_t setup_flags = 0;  // the best IORING_SETUP_* flags that work together
  bool single_issuer = false;
  bool defer_taskrun = false;
  bool coop_taskrun = false;
  bool big_entries = false;  // SQE128 + CQE32: NVMe passthrough needs them
  bool uring_cmd = false;
  bool block_discard = false;  // some block device of this host takes discard as a uring command
};
UringFeatures probe_uring();

// Whether this block device takes discard as a uring command (kernel 6.12 and later). Asks with a
// command that every kernel refuses, so nothing is discarded; `fd` may be open for reading only.
bool takes_discard_command(int fd);

// Completions of the reactor's own business, told apart from Operation addresses by being small.
enum class Wakeup : uint64_t { event_channel = 1, mailbox = 2 };

// Created, used and destroyed on one thread: the kernel refuses a second one (SINGLE_ISSUER).
class Uring {
 public:
  // Throws std::system_error when the kernel refuses the ring.
  explicit Uring(const UringFeatures& features);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  const UringFeatures& features() const { return features_; }

  // Never fails: a full submission queue is submitted first. The first 64 bytes are zeroed; the
  // second half of a big entry is for whoever uses it (commands alone; the kernel ignores it else).
  io_uring_sqe* reserve();
  io_uring_sqe* reserve_for(Operation& operation) {
    io_uring_sqe* sqe = reserve();
    io_uring_sqe_set_data(sqe, &operation);
    operations_in_flight_++;
    return sqe;
  }
  // Keeps reporting `wakeup` while `fd` is readable: it is looked at anew with the first submission
  // after each reap() that told so.
  void watch(int fd, Wakeup wakeup);

  // Submits what was reserved and runs the kernel's deferred work if there is any. No syscall when
  // there is neither.
  void submit();
  // Submits and sleeps until a completion or `timeout_us` (UINT64_MAX: for ever). May return early.
  void sleep(uint64_t timeout_us);

  struct Reaped {
    Operation* operations = nullptr;  // linked by next, in completion order; part_result is set
    bool event_channel = false;
    bool mailbox = false;
  };
  // Read an operation's `next` before advancing it: once submitted again it may join a new list.
  Reaped reap();

  // Registers one memory region as fixed buffer 0. Returns false where the kernel refuses.
  bool register_buffer(std::span<std::byte> memory);

  struct Counters {
    uint64_t enter_calls = 0;
    uint64_t submissions = 0;
    uint64_t sleeps = 0;
  };
  const Counters& counters() const { return counters_; }
  // Reserved for and not collected yet.
  uint32_t operations_in_flight() const { return operations_in_flight_; }

 private:
  static constexpr size_t kWakeupKinds = 3;  // indexed by Wakeup, 0 is unused

  bool kernel_work_pending() const;
  void enter();
  void collect();
  void take(const io_uring_cqe& completion);
  void arm(Wakeup wakeup);

  UringFeatures features_;
  io_uring ring_{};
  std::array<int, kWakeupKinds> watched_fds_{-1, -1, -1};
  std::array<bool, kWakeupKinds> disarmed_{};
  Reaped reaped_;  // collected, not yet handed out
  Operation** reaped_tail_ = &reaped_.operations;
  uint32_t operations_in_flight_ = 0;
  Counters counters_;
};

}  // namespace ringdisk
