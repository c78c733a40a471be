// SPDX-License-Identifier: Apache-2.0
// A daemon's threads in a simulation: whatever one of them would do next is done when the test says
// so. The last is that of the disk's home, the others have a queue each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>

#include "io/alarms.h"
#include "io/bounce_share.h"
#include "io/uring.h"
#include "metrics/counters.h"
#include "targets/lanes.h"
#include "targets/target.h"

namespace ringdisk {

template <typename Channel>
class SimThreads {
 public:
  struct Thread {
    Thread(Uring& uring, uint32_t depth, BouncePool& pool)
        : context{uring, lanes, depth, memory, alarms, counters}, memory(pool) {}
    std::deque<std::function<void()>> posted;
    Lanes lanes{[this](std::function<void()> work) { posted.push_back(std::move(work)); }};
    Alarms alarms{[](uint64_t) {}};
    QueueCounters counters;
    ChannelContext context;
    BounceShare memory;
    std::unique_ptr<Channel> channel;
  };

  // `depth`: of each one's channels.
  SimThreads(Uring& uring, size_t queues, uint32_t depth, size_t memory_bytes)
      : pool_(uring, memory_bytes) {
    for (size_t i = 0; i <= queues; i++) threads_.emplace_back(uring, depth, pool_);
  }

  Thread& home() { return threads_.back(); }
  Thread& of_queue(size_t queue) { return threads_[queue]; }
  BouncePool& pool() { return pool_; }
  size_t queues() const { return threads_.size() - 1; }

  bool has_posted() const {
    return std::ranges::any_of(threads_, [](const Thread& one) { return !one.posted.empty(); });
  }
  // The next thing that somebody posted, of a thread that has any.
  void run_posted(std::minstd_rand& random) {
    for (size_t i = random();; i++) {
      Thread& thread = threads_[i % threads_.size()];
      if (thread.posted.empty()) continue;
      const std::function<void()> work = std::move(thread.posted.front());
      thread.posted.pop_front();
      return work();
    }
  }

 private:
  BouncePool pool_;
  std::deque<Thread> threads_;
};

}  // namespace ringdisk
