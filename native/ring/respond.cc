// SPDX-License-Identifier: Apache-2.0
// Steps 7 and 8: what became of an operation, and the guest's answer. The order of an answer is the
// journal's: memory let go, DONE with index and status, the ring entry, one publish for all, FREE.
#include <algorithm>
#include <cerrno>

#include "base/kill_point.h"
#include "metrics/probes.h"
#include "ring/queue.h"

namespace ringdisk {

using Kind = ValidRequest::Kind;
using Stage = Slot::Stage;

void Queue::advance(Slot& slot) {
  RD_KILL_POINT("advance:completed");
  if (slot.operation.result < 0 && is_tried_again(slot)) return retry(slot);
  switch (slot.stage) {
    case Stage::flush:
    case Stage::barrier_before:
    case Stage::barrier_after:
      return flush_done(slot);
    case Stage::old_data:
      return old_data_done(slot);
    case Stage::read:
    case Stage::write:
    case Stage::barrier_write:
      return data_done(slot);
  }
}

void Queue::data_done(Slot& slot) {
  const int32_t result = slot.operation.result;
  if (result == 0 && slot.stage == Stage::barrier_write)
    return start_io(slot, Stage::barrier_after, Operation::Kind::flush);
  if (result == 0 && slot.stage == Stage::read) {
    move(slot, true);
    return landing_.push(slot);
  }
  complete(slot, result);
}

// The block around a small write is here: put the guest's part over it, then write all of it.
void Queue::old_data_done(Slot& slot) {
  if (slot.operation.result < 0) return complete(slot, slot.operation.result);
  move(slot, false);
  reactor_.transfer().flush();
  if (slot.fault) return complete(slot, -EFAULT);
  const bool barrier = slot.valid.kind == Kind::barrier;
  start_io(slot, barrier ? Stage::barrier_write : Stage::write, Operation::Kind::write);
}

void Queue::flush_done(Slot& slot) {
  if (slot.stage != Stage::barrier_before || slot.valid.segment_count == 0)
    return complete(slot, 0);
  if (!needs_old_data(slot)) return start_io(slot, Stage::barrier_write, Operation::Kind::write);
  start_write(slot);
}

// Flushes always, since Linux takes an empty one's error as "no flush needed" for the rest of the
// connection. The others where the guest shall wait for its device; but a discard is a hint, and
// some ranges no device ever takes.
bool Queue::is_tried_again(const Slot& slot) const {
  const Operation& operation = slot.operation;
  if (operation.kind == Operation::Kind::flush) return true;
  if (shared_->on_error == OnError::report) return false;
  return operation.kind != Operation::Kind::discard;
}

// It stays in flight, with its memory and its place in the order, and all that failed so far is
// tried again together.
void Queue::retry(Slot& slot) {
  if (closing_) return give_up(slot);
  counters_->retries.add();
  if (!slot.failing) {
    slot.failing = true;
    if (failing_count_++ == 0)
      shared_->events->io_failing(shared_->vbd, index_, -slot.operation.result);
  }
  retrying_.push(slot);
  RD_KILL_POINT("retry:waiting");
  if (retry_at_us_ != kNever) return;
  retry_at_us_ = Reactor::now_us() + retry_delay_us_;
  retry_delay_us_ = std::min(retry_delay_us_ * 2, kRetryMaxUs);
  schedule(retry_at_us_);
}

// The frontend is going, or gone. One that is still there can't let go of its disk before it has
// all its answers. There are no more writes that it could take a flush's error for a permission
// for.
void Queue::give_up(Slot& slot) { complete(slot, slot.operation.result); }

// In whichever way it is over with this one.
void Queue::recovered(Slot& slot) {
  slot.failing = false;
  if (--failing_count_ > 0) return;
  retry_delay_us_ = kRetryMinUs;
  if (!closing_) shared_->events->io_recovered(shared_->vbd, index_);
}

// Data of all reads of this round reaches the guest in one grant copy call.
void Queue::land() {
  reactor_.transfer().flush();
  SlotList landed = landing_.take();
  while (Slot* slot = landed.pop()) complete(*slot, slot->fault ? -EFAULT : 0);
}

void Queue::complete(Slot& slot, int32_t result) {
  leave_in_flight(slot);
  count(slot, result);
  int16_t status = wire::kOkay;
  if (result < 0)
    status = result == -EOPNOTSUPP && slot.valid.kind == Kind::discard ? wire::kNotSupported
                                                                       : wire::kError;
  answer(slot, status);
}

void Queue::count(const Slot& slot, int32_t result) {
  if (result == -EFAULT) return counters_->rejected.add();  // the guest's grant, not the medium
  if (result < 0) counters_->io_errors.add();
  const uint64_t bytes = slot.valid.sector_count * kSectorBytes;
  switch (slot.valid.kind) {
    case Kind::read:
      counters_->reads.add();
      return counters_->read_bytes.add(bytes);
    case Kind::barrier:
      counters_->barriers.add();
      return counters_->write_bytes.add(bytes);
    case Kind::write:
      counters_->writes.add();
      return counters_->write_bytes.add(bytes);
    case Kind::flush:
      return counters_->flushes.add();
    case Kind::discard:
      counters_->discards.add();
      return counters_->discard_bytes.add(bytes);
  }
}

void Queue::answer(Slot& slot, int16_t status) {
  JournalSlot& record = slots_->journal(slot);
  record.response_index = ring_->rsp_prod();
  record.status = status;
  RD_KILL_POINT("answer:before-done");
  if (!RD_PLANTED("duplicate")) Journal::set_state(record, JournalState::done);
  RD_KILL_POINT("answer:done");
  ring_->respond(slot.request.guest_id, slot.request.answered_operation(), status);
  RD_KILL_POINT("answer:written");
  answered_.push(slot);
}

// All answers of this round become visible at once, with at most one notification.
void Queue::publish() {
  counters_->in_flight.set(in_flight_count_);
  counters_->bounce_bytes.set(bounce_.used_bytes());
  if (persistent_) {
    counters_->mapped_pages.set(mapped_pages());
    counters_->grant_maps.set(persistent_->maps());
    counters_->grant_unmaps.set(persistent_->unmaps());
  }
  if (age_at_us_ == kNever && holds_memory()) {
    age_at_us_ = Reactor::now_us() + kGrantAgeUs;
    schedule(age_at_us_);
  }
  if (!ring_->has_unpublished()) return;
  RD_KILL_POINT("publish:before");
  const bool notify = ring_->publish();
  RD_KILL_POINT("publish:shown");
  journal_->set_published(ring_->rsp_prod());
  RD_KILL_POINT("publish:noted");
  release_answered();
  RD_KILL_POINT("publish:freed");
  if (!notify) return;
  counters_->notifications_sent.add();
  reactor_.events().notify(port_);
}

void Queue::release_answered() {
  const uint64_t now = reactor_.read_clock();
  uint32_t count = 0;
  SlotList answered = answered_.take();
  while (Slot* slot = answered.pop()) {
    const auto kind = static_cast<uint32_t>(slot->valid.kind);
    const uint64_t latency = slot->seen_ns != 0 ? now - slot->seen_ns : 0;
    if (latency != 0) counters_->latency[kind].record(latency);
    slot->seen_ns = 0;
    JournalSlot& record = slots_->journal(*slot);
    RD_PROBE(request_answered, vbd_name_, index_, slot->index, kind, record.status, latency);
    Journal::set_state(record, JournalState::free);
    slots_->release(*slot);
    count++;
    RD_KILL_POINT("publish:one-freed");
  }
  counters_->batches.add();
  counters_->answered.add(count);
  reactor_.note_answers(count);
}

}  // namespace ringdisk
