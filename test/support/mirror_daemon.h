// SPDX-License-Identifier: Apache-2.0
// A daemon that mirrors a disk, without its threads (sim_threads.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "channels/mirror_filter.h"
#include "channels/mirror_home.h"
#include "lossy_disk.h"
#include "sim_threads.h"

namespace ringdisk {

class MirrorDaemon {
 public:
  static constexpr size_t kQueues = 3;
  static constexpr uint32_t kDepth = 4;

  // `fenced`: whether a dead daemon's I/O may still come to the source.
  MirrorDaemon(Uring& uring, LossyDisk& source, const std::string& map_path,
               std::function<bool()> fenced)
      : threads_(uring, kQueues, kDepth, 4u << 20), state_(map_path) {
    auto& own = threads_.home();
    home_ = std::make_unique<MirrorHome>(
        state_, own.context,
        MirrorHome::Setup{.source = source.open(),
                          .source_is_fenced = std::move(fenced),
                          .post = [&own](auto work) { own.posted.push_back(std::move(work)); },
                          .on_change = [this] { changes_++; }});
    for (size_t i = 0; i < kQueues; i++) {
      auto& thread = threads_.of_queue(i);
      thread.channel = std::make_unique<MirrorFilter>(*home_, state_, thread.context);
      thread.channel->inner() = source.open();
    }
  }

  MirrorHome& home() { return *home_; }
  MirrorState& state() { return state_; }
  TargetChannel& channel(size_t queue) { return *threads_.of_queue(queue).channel; }
  // What all of its threads share.
  BouncePool& pool() { return threads_.pool(); }
  uint64_t changes() const { return changes_; }
  void give(LossyDisk& destination) { home_->destination_is_here(destination.open()); }
  void run_alarms(uint64_t now_us) { threads_.home().alarms.run(now_us); }
  bool has_posted() const { return threads_.has_posted(); }
  void run_posted(std::minstd_rand& random) { threads_.run_posted(random); }

 private:
  SimThreads<MirrorFilter> threads_;
  MirrorState state_;
  std::unique_ptr<MirrorHome> home_;
  uint64_t changes_ = 0;
};

}  // namespace ringdisk
