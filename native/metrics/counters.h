// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "metrics/latency_histogram.h"

namespace ringdisk {

// Written by one thread, read by any: a plain add for the writer, never a lock.
class Counter {
 public:
  void add(uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// One queue's, on cache lines of its own. Since connect; those marked are gauges.
struct alignas(64) QueueCounters {
  Counter reads, writes, flushes, barriers, discards;
  Counter read_bytes, write_bytes, discard_bytes;
  Counter io_errors, rejected, unsupported, indirect;
  Counter notifications_received, notifications_sent, polls;
  Counter take_batches, taken, batches, answered;  // the batches of polls and of publishes
  Counter grant_maps, grant_unmaps, grant_copies, copied_bytes;
  Counter read_modify_writes, retries;
  Counter replayed, redelivered;                          // taken over from a process that died
  Counter in_flight, mapped_pages, bounce_bytes, broken;  // gauges
  Counter waiting_for_tokens;                             // gauge
  // By ValidRequest::Kind, from when a request was first seen in the ring until its answer is
  // shown. Rejected requests are not in it, nor those of a process that died.
  std::array<LatencyHistogram, 5> latency;
  // Part of those: what requests waited for tokens, where there are limits and they had to.
  LatencyHistogram waited_for_tokens;
};

struct alignas(64) ReactorCounters {
  // Its system calls, but for notifications sent, which are counted by queue. Where io_uring reads
  // and unmasks event channels (Xen), the last two stay 0.
  Counter uring_enters, grant_calls, event_reads, event_unmasks;
  Counter sleeps, wakeups, submissions;
  Counter bounce_bytes, bound_ports, mapped_pages;  // gauges
};

}  // namespace ringdisk
