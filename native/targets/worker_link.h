// SPDX-License-Identifier: Apache-2.0
// The daemon's end of one worker, whichever process that is at the moment: the page they share, and
// what channels and targets ask of it. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "medium/facts.h"
#include "targets/target.h"
#include "worker/lane_layout.h"

namespace ringdisk {

class Lanes;
class Workers;

// Where in an operation's scratch space a lane notes what is wanted; a channel may use the rest.
inline constexpr size_t kLaneScratch = 8;

class WorkerLink : public std::enable_shared_from_this<WorkerLink> {
 public:
  // Maps the page. Throws std::system_error.
  explicit WorkerLink(Workers& workers);
  ~WorkerLink();
  WorkerLink(const WorkerLink&) = delete;
  WorkerLink& operator=(const WorkerLink&) = delete;

  // False: it died and none can be started for now.
  bool is_up() const { return up_.load(std::memory_order_acquire); }
  // After what was submitted has been made visible.
  void ring_if_idle();
  void add_lane(uint32_t id, Lanes& lanes, Fd memory);
  void remove_lane(uint32_t id);
  // Another one begins in its place.
  void end_process();
  std::vector<TargetWait> waits(uint64_t before_us) const;
  uint64_t device_flushes() const { return page_->device_flushes.load(std::memory_order_relaxed); }
  // What reads and writes that never wait go by; -1: there are none. Closed with the target.
  int io() const { return io_.get(); }
  int process() const { return process_.load(std::memory_order_relaxed); }

 private:
  friend class Workers;

  Workers& workers_;
  Fd page_memory_;
  Fd io_;
  WorkerPage* page_ = nullptr;
  std::atomic<bool> up_{true};
  std::atomic<int> process_{0};
};

}  // namespace ringdisk
