// SPDX-License-Identifier: Apache-2.0
#include "request/request_engine.h"

#include <utility>

#include "base/kill_point.h"

namespace ringdisk {

RequestEngine::RequestEngine(Reactor& reactor, Transport& transport, const Setup& setup,
                             QueueCounters& counters)
    : reactor_(reactor),
      transport_(transport),
      target_(setup.target),
      on_error_(setup.on_error),
      flush_errors_told_(setup.flush_errors_told),
      vbd_name_(setup.vbd_name),
      queue_(setup.queue),
      io_alignment_(target_->capabilities().io_alignment),
      block_locks_(target_->block_locks()),
      counters_(counters),
      bounce_(reactor.bounce()),
      alarms_([this](uint64_t at_us) { reactor_.wake_by(transport_, at_us); }),
      context_{.uring = reactor.uring(),
               .lanes = reactor.lanes(),
               .depth = setup.depth,
               .memory = bounce_,
               .alarms = alarms_,
               .counters = counters},
      stack_(target_->open_channel(context_)),
      coming_(setup.depth),
      merging_(setup.depth),
      going_(setup.depth),
      over_(setup.depth),
      fenced_(target_->fenced()) {
  if (setup.filter) stack_.put(setup.filter(context_));
  follow_target();
  if (setup.limits) limiter_ = make_limiter(setup.limits);
}

// First half: requests get memory and data, and are handed to the target.
bool RequestEngine::start() {
  if (fenced_ && !target_->fenced()) release_held();
  blocked_ = change_ != nullptr;
  if (blocked_) return false;  // commit() or abandon() brings us back
  if (limiter_) pass_limits();
  SlotList ready;
  uint64_t bytes = 0;
  uint32_t pages = 0;
  while (Slot* slot = waiting_.front()) {
    if (bytes >= kTurnBytes || pages >= kTurnPages) break;
    if (fenced_ && hold_for_fence(*slot)) continue;
    if (must_wait(*slot) || !hold_blocks(*slot) || !attach(*slot)) {
      blocked_ = true;
      reactor_.mark_blocked(transport_);
      break;
    }
    bytes += slot->length;
    pages += slot->valid.pages;
    waiting_.pop();
    join_in_flight(*slot);
    if (slot->valid.kind == Kind::barrier) barrier_ = slot;
    if (brings_data(*slot)) coming_.push(*slot);
    ready.push(*slot);
  }
  if (ready.empty()) return false;
  RD_KILL_POINT("dispatch:attached");
  if (!coming_.empty()) transport_.fetch(coming_.take());  // one call for the data of all of them
  while (Slot* slot = ready.pop()) start(*slot);
  RD_KILL_POINT("dispatch:prepared");
  return true;
}

// Second half: the target is done with some of them.
void RequestEngine::finish() {
  SlotList done = completed_.take();
  while (Slot* slot = done.pop()) advance(*slot);
  if (!merging_.empty()) merge();
  if (!going_.empty()) deliver();
  if (!over_.empty()) transport_.answer(over_.take());
  if (change_) tell_if_quiet();
  counters_.in_flight.set(in_flight_count_);
  counters_.bounce_bytes.set(bounce_.used_bytes());
}

bool RequestEngine::may_sleep() {
  if (fenced_) {
    if (!target_->fenced()) return false;
    // Lifting the fence wakes those that are blocked; a completion may have undone that meanwhile.
    reactor_.mark_blocked(transport_);
  }
  // An alarm may have rung since the last start().
  if (limiter_ && limiter_->is_due()) return change_ != nullptr;
  return waiting_.empty() || blocked_;  // a completion brings us back
}

bool RequestEngine::idle() const {
  return in_flight_count_ == 0 && waiting_.empty() && (!limiter_ || limiter_->empty()) &&
         held_.empty() && completed_.empty() && over_.empty();
}

void RequestEngine::close() {
  closing_ = true;
  for (Slot* slot = in_flight_; slot; slot = slot->in_flight_next)
    slot->operation.cancelled = slot->valid.kind == Kind::discard;
  stack_.top()->cancel_discards();
  // What keeps failing would keep the guest's memory for ever.
  SlotList hopeless = retrying_.take();
  retrying_count_ = 0;
  while (Slot* slot = hopeless.pop()) give_up(*slot);
  abandon();
}

void RequestEngine::end(std::function<void()> done) {
  ended_ = true;
  alarms_.cancel(*this);
  limiter_.reset();
  stack_.close([this, done = std::move(done)] {
    // Not here: a channel may be at work when it finds that it has ended.
    reactor_.later([this, done] {
      stack_ = Stack(nullptr);  // on this thread, whose lanes they have
      done();
    });
  });
}

}  // namespace ringdisk
