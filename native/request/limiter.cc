// SPDX-License-Identifier: Apache-2.0
#include "request/limiter.h"

#include <algorithm>
#include <utility>

namespace ringdisk {

using Kind = ValidRequest::Kind;

Limiter::Limiter(std::shared_ptr<Limits> limits, uint32_t depth, Alarms& alarms,
                 QueueCounters& counters)
    : limits_(std::move(limits)), alarms_(alarms), counters_(counters), since_ns_(depth) {}

Limiter::~Limiter() {
  count(0);
  alarms_.cancel(*this);
}

void Limiter::count(uint32_t waiting) {
  if (count_ == 0 && waiting > 0) limits_->begin_to_wait();
  if (count_ > 0 && waiting == 0) limits_->end_to_wait();
  count_ = waiting;
}

void Limiter::pass(SlotList& waiting, uint64_t now_ns) {
  now_ns_ = now_ns;
  take_in(waiting);
  release(waiting);
  set_alarm();
  counters_.waiting_for_tokens.set(count_);
}

// What is new. What was let through before and could not be started yet stays, in front.
void Limiter::take_in(SlotList& waiting) {
  SlotList all = waiting.take();
  while (Slot* slot = all.pop()) {
    if (slot->admitted) {
      waiting.push(*slot);
      continue;
    }
    since_ns_[slot->index] = now_ns_;
    count(count_ + 1);
    if (behind_.empty())
      sort(*slot, waiting);
    else
      behind_.push(*slot);
  }
}

void Limiter::sort(Slot& slot, SlotList& waiting) {
  if (!Limits::counts(slot.valid.kind)) return admit(slot, waiting);
  if (slot.valid.kind == Kind::barrier) return behind_.push(slot);
  waiting_[class_of(slot)].push(slot);
}

void Limiter::release(SlotList& waiting) {
  for (;;) {
    release(reads, waiting);
    release(writes, waiting);
    if (behind_.empty() || !waiting_[reads].empty() || !waiting_[writes].empty()) return;
    if (!may_go(*behind_.front())) return;
    admit(*behind_.pop(), waiting);
    // As far as the next barrier.
    SlotList after = behind_.take();
    while (Slot* slot = after.pop()) behind_.empty() ? sort(*slot, waiting) : behind_.push(*slot);
  }
}

void Limiter::release(Class which, SlotList& waiting) {
  SlotList& list = waiting_[which];
  while (!list.empty() && may_go(*list.front())) admit(*list.pop(), waiting);
}

bool Limiter::may_go(const Slot& slot) {
  using Has = First::Has;
  First& first = first_[class_of(slot)];
  if (first.has == Has::nothing) first = {Has::turn, limits_->turn(slot.valid, now_ns_)};
  if (first.may_go_ns > now_ns_) return false;
  if (first.has == Has::turn) first = {Has::tokens, limits_->take(slot.valid, now_ns_)};
  if (first.may_go_ns > now_ns_) return false;
  first = {};
  return true;
}

void Limiter::admit(Slot& slot, SlotList& waiting) {
  const uint64_t waited = now_ns_ - since_ns_[slot.index];
  if (waited > 0) counters_.waited_for_tokens.record(waited);
  slot.admitted = true;
  count(count_ - 1);
  waiting.push(slot);
}

// One for all that waits.
void Limiter::set_alarm() {
  uint64_t next_ns = kNever;
  for (const First& first : first_)
    if (first.has != First::Has::nothing) next_ns = std::min(next_ns, first.may_go_ns);
  const uint64_t next_us = next_ns == kNever ? kNever : (next_ns + 999) / 1000;
  if (next_us == alarm_us_) return;
  alarm_us_ = next_us;
  if (next_us == kNever)
    alarms_.cancel(*this);
  else
    alarms_.set(*this, next_us);
}

SlotList Limiter::take_all(SlotList& waiting) {
  take_in(waiting);
  SlotList all;
  for (SlotList* list : {&waiting_[writes], &waiting_[reads], &behind_})
    while (Slot* slot = list->pop()) all.push(*slot);
  first_ = {};
  count(0);
  set_alarm();
  counters_.waiting_for_tokens.set(0);
  return all;
}

}  // namespace ringdisk
