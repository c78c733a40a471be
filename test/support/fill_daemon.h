// SPDX-License-Identifier: Apache-2.0
// A daemon that fills a disk, without its threads: whatever one of them would do next is done when
// the test says so.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "channels/fill_channel.h"
#include "channels/fill_home.h"
#include "io/bounce_share.h"
#include "io/uring.h"
#include "lossy_disk.h"
#include "metrics/counters.h"
#include "targets/lanes.h"

namespace ringdisk {

class FillDaemon {
 public:
  struct Disks {
    LossyDisk& local;
    LossyDisk& source;
    LossyDisk& map;
  };
  static constexpr size_t kQueues = 3;
  static constexpr uint32_t kDepth = 4;

  // `late`: without its source, until give_source().
  FillDaemon(Uring& uring, const Disks& disks, const FillHeader& header, std::string live_path,
             bool late = false);

  bool is_loaded() const { return loaded_ == 0; }
  int load_error() const { return loaded_; }
  FillHome& home() { return *home_; }
  FillState& state() { return state_; }
  FillChannel& channel(size_t queue) { return *threads_[queue].channel; }
  // Where it is awaited still.
  bool awaits_source() const { return late_ && !state_.straight && is_loaded(); }
  void give_source() {
    late_ = false;
    home_->source_is_here(disks_.source.open());
  }
  void run_alarms() { threads_[kQueues].alarms.run(UINT64_MAX - 1); }

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
        : context{uring, lanes, FillHome::kDepth, memory, alarms, counters}, memory(pool) {}
    std::deque<std::function<void()>> posted;
    Lanes lanes{[this](std::function<void()> work) { posted.push_back(std::move(work)); }};
    Alarms alarms{[](uint64_t) {}};
    QueueCounters counters;
    ChannelContext context;
    BounceShare memory;
    std::unique_ptr<FillChannel> channel;
  };

  const Disks& disks_;
  bool late_;
  BouncePool pool_;
  FillState state_;
  std::deque<Thread> threads_;  // the last is the home's
  std::unique_ptr<FillHome> home_;
  int loaded_ = -1;
};

inline FillDaemon::FillDaemon(Uring& uring, const Disks& disks, const FillHeader& header,
                              std::string live_path, bool late)
    : disks_(disks), late_(late), pool_(uring, 2u << 20) {
  state_.header = header;
  state_.chunks = fill_chunks(header.source_bytes, header.chunk_bytes);
  for (size_t i = 0; i <= kQueues; i++) threads_.emplace_back(uring, pool_);
  Thread& own = threads_[kQueues];
  home_ = std::make_unique<FillHome>(
      state_, own.context,
      FillHome::Setup{.local = disks.local.open(),
                      .source = late ? nullptr : disks.source.open(),
                      .map = disks.map.open(),
                      .live_path = std::move(live_path),
                      .post = [&own](auto work) { own.posted.push_back(std::move(work)); },
                      .on_full = [&disks] { disks.source.is_gone = true; }});
  for (size_t i = 0; i < kQueues; i++)
    threads_[i].channel =
        std::make_unique<FillChannel>(*home_, state_, disks.local.open(), threads_[i].context);
  home_->load([this](int error, const std::string&) { loaded_ = error; });
}

}  // namespace ringdisk
