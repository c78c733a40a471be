// SPDX-License-Identifier: Apache-2.0
// What fails and is tried again: it stays in flight, with its memory and its place in the order,
// and all that failed so far is tried again together.
#include <algorithm>

#include "base/kill_point.h"
#include "request/request_engine.h"

namespace ringdisk {

// Flushes as Setup::flush_errors_told says. The others where the guest shall wait for its device;
// but a discard is a hint, and some ranges no device ever takes.
bool RequestEngine::is_tried_again(const Slot& slot) const {
  const Operation& operation = slot.operation;
  if (operation.kind == Operation::Kind::flush && !flush_errors_told_) return true;
  if (on_error_ == OnError::report) return false;
  return operation.kind != Operation::Kind::discard;
}

void RequestEngine::retry(Slot& slot) {
  if (closing_) return give_up(slot);
  counters_.retries.add();
  if (!slot.failing) {
    slot.failing = true;
    if (failing_count_++ == 0) transport_.io_failing(-slot.operation.result);
  }
  retrying_.push(slot);
  retrying_count_++;
  RD_KILL_POINT("retry:waiting");
  if (is_set()) return;
  alarms_.set(*this, clock_us() + retry_delay_us_);
  retry_delay_us_ = std::min(retry_delay_us_ * 2, kRetryMaxUs);
}

void RequestEngine::on_alarm(uint64_t now_us) {
  if (change_) return alarms_.set(*this, now_us + kRetryMinUs);
  retrying_count_ = 0;
  SlotList retrying = retrying_.take();
  while (Slot* slot = retrying.pop()) submit(*slot);
}

// The frontend is going, or gone. One that is still there can't let go of its disk before it has
// all its answers. There are no more writes that it could take a flush's error for a permission
// for.
void RequestEngine::give_up(Slot& slot) { complete(slot, slot.operation.result); }

// In whichever way it is over with this one.
void RequestEngine::recovered(Slot& slot) {
  slot.failing = false;
  if (--failing_count_ > 0) return;
  retry_delay_us_ = kRetryMinUs;
  if (!closing_) transport_.io_recovered();
}

}  // namespace ringdisk
