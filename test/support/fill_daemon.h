// SPDX-License-Identifier: Apache-2.0
// A daemon that fills a disk, without its threads (sim_threads.h).
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "channels/fill_channel.h"
#include "channels/fill_home.h"
#include "lossy_disk.h"
#include "sim_threads.h"

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
  FillChannel& channel(size_t queue) { return *threads_.of_queue(queue).channel; }
  // Where it is awaited still.
  bool awaits_source() const { return late_ && !state_.straight && is_loaded(); }
  void give_source() {
    late_ = false;
    home_->source_is_here(disks_.source.open());
  }
  void run_alarms() { threads_.home().alarms.run(UINT64_MAX - 1); }

  bool has_posted() const { return threads_.has_posted(); }
  void run_posted(std::minstd_rand& random) { threads_.run_posted(random); }

 private:
  const Disks& disks_;
  bool late_;
  SimThreads<FillChannel> threads_;
  FillState state_;
  std::unique_ptr<FillHome> home_;
  int loaded_ = -1;
};

inline FillDaemon::FillDaemon(Uring& uring, const Disks& disks, const FillHeader& header,
                              std::string live_path, bool late)
    : disks_(disks), late_(late), threads_(uring, kQueues, FillHome::kDepth, 2u << 20) {
  state_.header = header;
  state_.chunks = fill_chunks(header.source_bytes, header.chunk_bytes);
  auto& own = threads_.home();
  home_ = std::make_unique<FillHome>(
      state_, own.context,
      FillHome::Setup{.local = disks.local.open(),
                      .source = late ? nullptr : disks.source.open(),
                      .map = disks.map.open(),
                      .live_path = std::move(live_path),
                      .post = [&own](auto work) { own.posted.push_back(std::move(work)); },
                      .on_full = [&disks] { disks.source.is_gone = true; }});
  for (size_t i = 0; i < kQueues; i++) {
    auto& thread = threads_.of_queue(i);
    thread.channel =
        std::make_unique<FillChannel>(*home_, state_, disks.local.open(), thread.context);
  }
  home_->load([this](int error, const std::string&) { loaded_ = error; });
}

}  // namespace ringdisk
