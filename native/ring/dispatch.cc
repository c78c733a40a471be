// SPDX-License-Identifier: Apache-2.0
// Steps 5 and 6: in which order requests may run, and the operation each becomes.
//
// A ring promises no order between requests in flight, with two exceptions we make: a barrier waits
// for everything before it and holds everything after it, and a request that destroys or rewrites
// more than it says (a discard, a read-modify-write) never runs beside an overlapping write.
#include <cerrno>

#include "base/kill_point.h"
#include "metrics/probes.h"
#include "ring/queue.h"

namespace ringdisk {

using Kind = ValidRequest::Kind;
using Stage = Slot::Stage;

// Starts what waits, in ring order, up to the first that can't start yet or until it is the
// neighbours' turn. Returns whether any did.
bool Queue::start_waiting() {
  if (fenced_ && !shared_->target->fenced()) release_held();
  blocked_ = false;
  SlotList ready;
  uint64_t bytes = 0;
  uint32_t pages = 0;
  while (Slot* slot = waiting_.front()) {
    if (bytes >= kTurnBytes || pages >= kTurnPages) break;
    if (fenced_ && hold_for_fence(*slot)) continue;
    if (must_wait(*slot) || !attach(*slot)) {
      blocked_ = true;
      reactor_.mark_blocked(*this);
      break;
    }
    bytes += slot->length;
    pages += slot->valid.segment_count;
    waiting_.pop();
    join_in_flight(*slot);
    if (slot->valid.kind == Kind::barrier) barrier_ = slot;
    const bool writes = slot->valid.kind == Kind::write || slot->valid.kind == Kind::barrier;
    if (writes && slot->valid.segment_count > 0 && !needs_old_data(*slot)) move(*slot, false);
    ready.push(*slot);
  }
  if (ready.empty()) return false;
  RD_KILL_POINT("dispatch:attached");
  reactor_.transfer().flush();  // one call for the data of all of them
  while (Slot* slot = ready.pop()) start(*slot);
  RD_KILL_POINT("dispatch:prepared");
  return true;
}

// While a dead process's I/O may still land, only reads run: what was answered is on the medium,
// and what was not may appear in any order anyway.
bool Queue::hold_for_fence(Slot& slot) {
  if (slot.valid.kind == Kind::read) return false;
  waiting_.pop();
  held_.push(slot);
  reactor_.mark_blocked(*this);
  return true;
}

void Queue::release_held() {
  fenced_ = false;
  SlotList later = waiting_.take();
  waiting_ = held_.take();
  while (Slot* slot = later.pop()) waiting_.push(*slot);
}

bool Queue::must_wait(const Slot& slot) const {
  if (barrier_) return true;
  if (slot.valid.kind == Kind::barrier) return in_flight_count_ > 0;
  if (slot.valid.kind == Kind::read || slot.valid.kind == Kind::flush) return false;
  const bool exclusive = is_exclusive(slot);
  if (exclusive_count_ == 0 && !exclusive) return false;
  const SectorRange mine = range(slot);
  for (const Slot* other = in_flight_; other; other = other->in_flight_next) {
    if (other->valid.kind == Kind::read || other->valid.kind == Kind::flush) continue;
    if ((exclusive || is_exclusive(*other)) && mine.overlaps(range(*other))) return true;
  }
  return false;
}

bool Queue::is_exclusive(const Slot& slot) const {
  if (slot.valid.kind == Kind::discard) return true;
  const uint64_t sectors_per_block = io_alignment_ / kSectorBytes;
  return slot.valid.kind != Kind::read &&
         (slot.valid.sector | slot.valid.sector_count) % sectors_per_block != 0;
}

// In whole medium blocks: what a read-modify-write really rewrites.
Queue::SectorRange Queue::range(const Slot& slot) const {
  const uint64_t block = io_alignment_ / kSectorBytes;
  return {slot.valid.sector / block * block,
          (slot.valid.sector + slot.valid.sector_count + block - 1) / block * block};
}

void Queue::join_in_flight(Slot& slot) {
  slot.in_flight_previous = nullptr;
  slot.in_flight_next = in_flight_;
  if (in_flight_) in_flight_->in_flight_previous = &slot;
  in_flight_ = &slot;
  in_flight_count_++;
  if (is_exclusive(slot)) exclusive_count_++;
}

void Queue::leave_in_flight(Slot& slot) {
  (slot.in_flight_previous ? slot.in_flight_previous->in_flight_next : in_flight_) =
      slot.in_flight_next;
  if (slot.in_flight_next) slot.in_flight_next->in_flight_previous = slot.in_flight_previous;
  in_flight_count_--;
  if (is_exclusive(slot)) exclusive_count_--;
  if (barrier_ == &slot) barrier_ = nullptr;
  if (slot.failing) recovered(slot);
  detach(slot);
}

void Queue::start(Slot& slot) {
  if (slot.fault) {
    leave_in_flight(slot);
    return reject(slot, Rejection::bad_grant);
  }
  switch (slot.valid.kind) {
    case Kind::read:
      return start_io(slot, Stage::read, Operation::Kind::read);
    case Kind::write:
      return start_write(slot);
    case Kind::barrier:
      return start_io(slot, Stage::barrier_before, Operation::Kind::flush);
    case Kind::flush:
      return start_io(slot, Stage::flush, Operation::Kind::flush);
    case Kind::discard:
      return start_discard(slot);
  }
}

void Queue::start_write(Slot& slot) {
  if (!needs_old_data(slot)) return start_io(slot, Stage::write, Operation::Kind::write);
  counters_->read_modify_writes.add();
  start_io(slot, Stage::old_data, Operation::Kind::read);
}

void Queue::start_io(Slot& slot, Stage stage, Operation::Kind kind) {
  slot.stage = stage;
  slot.operation = {};
  Operation& operation = slot.operation;
  operation.kind = kind;
  if (kind != Operation::Kind::flush) {
    operation.offset = slot.offset;
    operation.length = slot.length;
    if (RD_PLANTED("torn") && kind == Operation::Kind::write && slot.length > kSectorBytes)
      operation.length -= kSectorBytes;
    operation.memory = slot.bounce.memory.data();
    operation.registered = slot.bounce.registered;
  }
  submit(slot);
}

// Only whole medium blocks can be given back; a discard is a hint, so what is left over is kept.
void Queue::start_discard(Slot& slot) {
  const uint64_t first = (slot.offset + io_alignment_ - 1) / io_alignment_ * io_alignment_;
  const uint64_t end = (slot.offset + slot.length) / io_alignment_ * io_alignment_;
  slot.stage = Stage::write;
  slot.operation = {};
  slot.operation.kind = Operation::Kind::discard;
  slot.operation.secure = slot.valid.secure;
  slot.operation.offset = first;
  slot.operation.length = end > first ? end - first : 0;
  slot.operation.slot_index = slot.index;
  // Nobody waits for what is taken away; and what is to be unreadable is so to the last byte, or
  // the guest is told.
  const bool is_whole = first == slot.offset && end == slot.offset + slot.length;
  if (closing_) slot.operation.result = -ECANCELED;
  if (slot.valid.secure && !is_whole) slot.operation.result = -EINVAL;
  if (slot.operation.length == 0 || slot.operation.result != 0) return finished(slot.operation);
  submit(slot);
}

void Queue::submit(Slot& slot) {
  Operation& operation = slot.operation;
  operation.channel = channel_.get();
  operation.sink = this;
  operation.slot_index = slot.index;
  RD_PROBE(request_submitted, vbd_name_, index_, slot.index, static_cast<int>(operation.kind),
           operation.offset, operation.length);
  if (channel_->start(operation)) finished(operation);
}

// Called by the reactor for each operation the target is done with; finish() looks at them
// together.
void Queue::finished(Operation& operation) {
  RD_PROBE(request_completed, vbd_name_, index_, operation.slot_index,
           static_cast<int>(operation.kind), operation.result);
  completed_.push((*slots_)[operation.slot_index]);
  reactor_.mark_dirty(*this);
}

}  // namespace ringdisk
