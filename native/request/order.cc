// SPDX-License-Identifier: Apache-2.0
// In which order requests may run.
//
// Nothing promises an order between requests in flight, with two exceptions we make: a barrier
// waits for everything before it and holds everything after it, and a request that destroys or
// rewrites more than it says (a discard, a read-modify-write) never runs beside an overlapping
// write. Other queues' discards are their frontend's to order, but no frontend knows what a
// read-modify-write rewrites: there the order is kept over all who write to the medium.
#include "request/request_engine.h"

namespace ringdisk {

// While a dead process's I/O may still land, only reads run: what was answered is on the medium,
// and what was not may appear in any order anyway.
bool RequestEngine::hold_for_fence(Slot& slot) {
  if (!changes(slot)) return false;
  waiting_.pop();
  held_.push(slot);
  reactor_.mark_blocked(transport_);
  return true;
}

void RequestEngine::release_held() {
  fenced_ = false;
  SlotList later = waiting_.take();
  waiting_ = held_.take();
  while (Slot* slot = later.pop()) waiting_.push(*slot);
}

bool RequestEngine::must_wait(const Slot& slot) const {
  if (barrier_) return true;
  if (slot.valid.kind == Kind::barrier) return in_flight_count_ > 0;
  if (!changes(slot) || slot.valid.kind == Kind::flush) return false;
  const bool exclusive = is_exclusive(slot);
  if (exclusive_count_ == 0 && !exclusive) return false;
  const SectorRange mine = range(slot);
  for (const Slot* other = in_flight_; other; other = other->in_flight_next) {
    if (!changes(*other) || other->valid.kind == Kind::flush) continue;
    if ((exclusive || is_exclusive(*other)) && mine.overlaps(range(*other))) return true;
  }
  return false;
}

bool RequestEngine::is_exclusive(const Slot& slot) const {
  if (slot.valid.kind == Kind::discard) return true;
  const uint64_t sectors_per_block = io_alignment_ / kSectorBytes;
  return changes(slot) && (slot.valid.sector | slot.valid.sector_count) % sectors_per_block != 0;
}

// False: others that write to its blocks come first. One that has them is started before long: what
// it may still wait for is memory, which those in flight have.
bool RequestEngine::hold_blocks(Slot& slot) {
  using State = Slot::Blocks::State;
  Slot::Blocks& blocks = slot.blocks;
  const bool writes = changes(slot) && slot.valid.sector_count > 0;
  if (!block_locks_ || !writes || blocks.state == State::held) return true;
  if (blocks.state == State::asked) return false;
  const uint64_t sectors_per_block = io_alignment_ / kSectorBytes;
  const SectorRange mine = range(slot);
  blocks.engine = this;
  blocks.first = mine.first / sectors_per_block;
  blocks.end = mine.end / sectors_per_block;
  blocks.shared = !is_exclusive(slot);
  blocks.state = block_locks_->acquire(blocks) ? State::held : State::asked;
  return blocks.state == State::held;
}

// On the thread of whoever had them. The engine is there: the request waits in it.
void Slot::Blocks::granted() {
  engine->context_.lanes.post([this] {
    state = State::held;
    engine->blocked_ = false;
    engine->reactor_.activate(engine->transport_);
  });
}

void RequestEngine::release_blocks(Slot& slot) {
  if (slot.blocks.state == Slot::Blocks::State::none) return;
  slot.blocks.state = Slot::Blocks::State::none;
  block_locks_->release(slot.blocks);
}

// In whole medium blocks: what a read-modify-write really rewrites.
RequestEngine::SectorRange RequestEngine::range(const Slot& slot) const {
  const uint64_t block = io_alignment_ / kSectorBytes;
  return {slot.valid.sector / block * block,
          (slot.valid.sector + slot.valid.sector_count + block - 1) / block * block};
}

void RequestEngine::join_in_flight(Slot& slot) {
  slot.admitted = false;
  slot.in_flight_previous = nullptr;
  slot.in_flight_next = in_flight_;
  if (in_flight_) in_flight_->in_flight_previous = &slot;
  in_flight_ = &slot;
  in_flight_count_++;
  if (is_exclusive(slot)) exclusive_count_++;
}

void RequestEngine::leave_in_flight(Slot& slot) {
  (slot.in_flight_previous ? slot.in_flight_previous->in_flight_next : in_flight_) =
      slot.in_flight_next;
  if (slot.in_flight_next) slot.in_flight_next->in_flight_previous = slot.in_flight_previous;
  in_flight_count_--;
  if (is_exclusive(slot)) exclusive_count_--;
  if (barrier_ == &slot) barrier_ = nullptr;
  release_blocks(slot);
  if (slot.failing) recovered(slot);
  detach(slot);
}

}  // namespace ringdisk
