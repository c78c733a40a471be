// SPDX-License-Identifier: Apache-2.0
// A daemon that mirrors a disk, without its threads: whatever one of them would do next is done
// when the test says so.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "channels/mirror_filter.h"
#include "channels/mirror_home.h"
#include "io/bounce_share.h"
#include "io/uring.h"
#include "lossy_disk.h"
#include "metrics/counters.h"
#include "targets/lanes.h"

namespace ringdisk {

class MirrorDaemon {
 public:
  static constexpr size_t kQueues = 3;
  static constexpr uint32_t kDepth = 4;

  // `fenced`: whether a dead daemon's I/O may still come to the source.
  MirrorDaemon(Uring& uring, LossyDisk& source, const std::string& map_path,
               std::function<bool()> fenced)
      : pool_(uring, 4u << 20), state_(map_path) {
    for (size_t i = 0; i <= kQueues; i++) threads_.emplace_back(uring, pool_);
    Thread& own = threads_[kQueues];
    home_ = std::make_unique<MirrorHome>(
        state_, own.context,
        MirrorHome::Setup{.source = source.open(),
                          .source_is_fenced = std::move(fenced),
                          .post = [&own](auto work) { own.posted.push_back(std::move(work)); },
                          .on_change = [this] { changes_++; }});
    for (size_t i = 0; i < kQueues; i++) {
      threads_[i].filter = std::make_unique<MirrorFilter>(*home_, state_, threads_[i].context);
      threads_[i].filter->inner() = source.open();
    }
  }

  MirrorHome& home() { return *home_; }
  MirrorState& state() { return state_; }
  TargetChannel& channel(size_t queue) { return *threads_[queue].filter; }
  uint64_t changes() const { return changes_; }
  void give(LossyDisk& destination) { home_->destination_is_here(destination.open()); }
  void run_alarms(uint64_t now_us) { threads_[kQueues].alarms.run(now_us); }

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
  struct Thread {
    Thread(Uring& uring, BouncePool& pool)
        : context{uring, lanes, kDepth, memory, alarms, counters}, memory(pool) {}
    std::deque<std::function<void()>> posted;
    Lanes lanes{[this](std::function<void()> work) { posted.push_back(std::move(work)); }};
    Alarms alarms{[](uint64_t) {}};
    QueueCounters counters;
    ChannelContext context;
    BounceShare memory;
    std::unique_ptr<MirrorFilter> filter;
  };

  BouncePool pool_;
  MirrorState state_;
  std::deque<Thread> threads_;  // the last is the home's
  std::unique_ptr<MirrorHome> home_;
  uint64_t changes_ = 0;
};

}  // namespace ringdisk
