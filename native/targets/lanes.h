// SPDX-License-Identifier: Apache-2.0
// How a reactor and its targets' workers speak: each channel has a lane (worker/lane_layout.h), and
// all lanes of a reactor share an eventfd that wakes it. Nothing here waits: what the worker does
// not take yet stays in the lane.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "io/operation.h"
#include "worker/lane_layout.h"

namespace ringdisk {

class Lane;
class WorkerLink;

// A reactor's. All calls on its thread, but for those that say otherwise.
class Lanes {
 public:
  // `post` runs something on the reactor's thread; any thread calls it. Throws std::system_error.
  explicit Lanes(std::function<void(std::function<void()>)> post);
  ~Lanes();  // no lane may be left
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  // Readable when a worker has completed something and arm() had been called. Blocking: who reads
  // it does so by io_uring.
  int bell() const { return bell_->get(); }
  // Who hands it on may do so when this is gone.
  const std::shared_ptr<Fd>& shared_bell() const { return bell_; }
  // Tells workers that sleep of what was submitted since the last call.
  void ring();
  // Parts that came back since the last call, linked by next, part_result set.
  Operation* collect();
  // Before a sleep: whoever completes something from now on rings. False: something has come.
  bool arm();
  uint32_t in_flight() const { return in_flight_; }
  // Any thread: runs `work` on the reactor's.
  void post(std::function<void()> work) { post_(std::move(work)); }
  // Any thread: runs `work` on the reactor's with the lane, unless it is gone by then.
  void with_lane(uint32_t id, std::function<void(Lane&)> work);

 private:
  friend class Lane;

  std::function<void(std::function<void()>)> post_;
  const std::shared_ptr<Fd> bell_;
  std::unordered_map<uint32_t, Lane*> all_;
  std::vector<Lane*> busy_;    // with calls in flight
  std::vector<Lane*> unrung_;  // with calls that no worker has been told of
  uint32_t in_flight_ = 0;     // of all lanes, those that wait in them included
};

// One channel's. Used on its reactor's thread.
class Lane {
 public:
  // Maps the memory and announces it to the worker. Throws std::system_error.
  Lane(Lanes& lanes, std::shared_ptr<WorkerLink> worker);
  ~Lane();  // nothing may be in flight
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Sends the operation's next part: `part` bytes from offset + done, to or from memory + done.
  // Comes back through Lanes::collect(). Where no worker can be had that is with -EIO, at once.
  void submit(Operation& operation, LaneCall call);

  uint32_t id() const { return id_; }
  // The worker died: another one begins with the calls that were not answered.
  void start_over();
  // No worker can be had for now.
  void fail_all();
  // From now on none is begun.
  void cancel_discards();
  // Pages of the window behind those in use, at most a slice of them. False: there are more.
  bool give_memory_back();
  bool holds_memory() const { return touched_pages_ > 0; }

 private:
  friend class Lanes;
  struct Outstanding {
    Operation* operation = nullptr;
    LaneCall call = LaneCall::read;
    uint32_t window_page = 0;
    uint32_t window_pages = 0;
  };

  bool try_send(Operation& operation, LaneCall call);
  void push(uint32_t tag);
  void send_waiting();
  void give_back(Operation& operation, int32_t result);
  void take_completions();
  void distrust(uint32_t end);
  bool has_completions() const;
  bool reserve_window(uint64_t bytes, uint32_t& page, uint32_t& pages);
  void release_window(uint32_t page, uint32_t pages);
  uint32_t used_window_end() const;
  std::byte* window() const;

  Lanes& lanes_;
  const std::shared_ptr<WorkerLink> worker_;
  uint32_t id_ = 0;
  LaneHeader* header_ = nullptr;
  uint32_t seen_ = 0;  // completions
  Outstanding outstanding_[kLaneEntries];
  uint32_t free_tags_[kLaneEntries];
  uint32_t free_tag_count_ = kLaneEntries;
  uint64_t window_used_[kLaneWindowPages / 64] = {};  // a bit per page
  uint32_t touched_pages_ = 0;                        // of the window: none behind was ever used
  Operation* waiting_ = nullptr;                      // no room for them yet; first in, first out
  Operation** waiting_tail_ = &waiting_;
  Operation* back_ = nullptr;  // to be collected
  Operation** back_tail_ = &back_;
  bool busy_ = false;
  bool unrung_ = false;
};

}  // namespace ringdisk
