// SPDX-License-Identifier: Apache-2.0
#include "targets/lanes.h"

#include <sys/eventfd.h>

#include <utility>

#include "base/assert.h"
#include "targets/worker_link.h"

namespace ringdisk {

Lanes::Lanes(std::function<void(std::function<void()>)> post)
    : post_(std::move(post)),
      bell_(std::make_shared<Fd>(
          Fd::checked(::eventfd(0, EFD_CLOEXEC), "cannot create an eventfd"))) {}

Lanes::~Lanes() { RD_ASSERT(all_.empty()); }

void Lanes::ring() {
  if (unrung_.empty()) return;
  // What was submitted must be seen by whoever is not counted as idle.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (Lane* lane : unrung_) {
    lane->unrung_ = false;
    lane->worker_->ring_if_idle();
  }
  unrung_.clear();
}

Operation* Lanes::collect() {
  Operation* all = nullptr;
  Operation** tail = &all;
  for (size_t i = 0; i < busy_.size();) {
    Lane& lane = *busy_[i];
    if (lane.has_completions()) lane.take_completions();
    for (Operation* one = lane.back_; one; one = one->next) in_flight_--;
    if (lane.back_) {
      *tail = std::exchange(lane.back_, nullptr);
      tail = std::exchange(lane.back_tail_, &lane.back_);
    }
    const bool idle = lane.free_tag_count_ == kLaneEntries && !lane.waiting_;
    if (!idle) {
      i++;
      continue;
    }
    lane.busy_ = false;
    busy_[i] = busy_.back();
    busy_.pop_back();
  }
  return all;
}

bool Lanes::arm() {
  for (Lane* lane : busy_) lane->header_->armed.store(1, std::memory_order_seq_cst);
  for (Lane* lane : busy_)
    if (lane->has_completions()) return false;
  return true;
}

void Lanes::with_lane(uint32_t id, std::function<void(Lane&)> work) {
  post_([this, id, work = std::move(work)] {
    const auto found = all_.find(id);
    if (found != all_.end()) work(*found->second);
  });
}

}  // namespace ringdisk
