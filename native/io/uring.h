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
};
UringFeatures probe_uring();

// Completions of the reactor's own business, told apart from Operation addresses by being small.
enum class Wakeup : uint64_t { none = 0, event_channel = 1, mailbox = 2, alarm = 3, lanes = 4 };

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
    if (!operation.waits_for_client) operations_in_flight_++;
    return sqe;
  }
  // Keeps reporting `wakeup` while `fd` is readable: it is looked at anew with the first submission
  // after each reap() that told so.
  void watch(int fd, Wakeup wakeup);
  // Once: reads into `buffer` when `fd` is readable and reports `wakeup`. The buffer must live
  // until then, or longer than this ring. `fd` must be open as O_NONBLOCK.
  void read_when_readable(int fd, std::span<std::byte> buffer, Wakeup wakeup);
  // Writes these four bytes with the next submission; does not tell what became of it. For files
  // whose writing never blocks.
  void write(int fd, uint32_t word);
  // Once: any sleep ends at this time (microseconds of CLOCK_MONOTONIC) at the latest, and reports
  // Wakeup::alarm. Submits; cheaper than a time-out per sleep when many sleeps come before it.
  void wake_at(uint64_t at_us);

  // Submits what was reserved and runs the kernel's deferred work if there is any. No syscall when
  // there is neither.
  void submit();
  // Submits and sleeps until a completion or `timeout_us` (UINT64_MAX: for ever). May return early.
  void sleep(uint64_t timeout_us);

  struct Reaped {
    Operation* operations = nullptr;  // linked by next, in completion order; part_result is set
    bool event_channel = false;
    bool mailbox = false;
    bool alarm = false;
    bool lanes = false;
    uint32_t event_bytes = 0;  // what read_when_readable() read of them
    bool events_lost = false;  // reading them failed, and not for the moment only
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
  // Reserved for and not collected yet, without those that wait for a client.
  uint32_t operations_in_flight() const { return operations_in_flight_; }
  // Those that have no submission of their own, as many that share a socket: begun and over.
  void count_begun() { operations_in_flight_++; }
  void count_over() { operations_in_flight_--; }
  // The place of what is reserved next; and whether the kernel has taken what was reserved there.
  // Until then what it points to may be changed.
  uint64_t next_place() const { return counters_.submissions + io_uring_sq_ready(&ring_); }
  bool has_taken(uint64_t place) const { return counters_.submissions > place; }

 private:
  static constexpr size_t kWakeupKinds = 5;  // indexed by Wakeup
  static constexpr unsigned kSubmissionEntries = 512;

  bool kernel_work_pending() const;
  void enter();
  void collect();
  void take(const io_uring_cqe& completion);
  void arm(Wakeup wakeup);
  void keep_quiet(io_uring_sqe* sqe) const;

  UringFeatures features_;
  io_uring ring_{};
  std::array<int, kWakeupKinds> watched_fds_{-1, -1, -1, -1, -1};
  std::array<bool, kWakeupKinds> disarmed_{};
  // What write() writes, in turn: the kernel has read each when it has taken its submission entry,
  // of which there are no more than these.
  std::array<uint32_t, kSubmissionEntries> words_{};
  uint32_t next_word_ = 0;
  Reaped reaped_;  // collected, not yet handed out
  Operation** reaped_tail_ = &reaped_.operations;
  uint32_t operations_in_flight_ = 0;
  Counters counters_;
};

}  // namespace ringdisk
