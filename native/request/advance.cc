// SPDX-License-Identifier: Apache-2.0
// What comes back from the target, and what follows.
#include <cerrno>

#include "base/kill_point.h"
#include "request/request_engine.h"

namespace ringdisk {

void RequestEngine::advance(Slot& slot) {
  RD_KILL_POINT("advance:completed");
  if (slot.operation.result < 0 && is_tried_again(slot)) return retry(slot);
  switch (slot.stage) {
    case Stage::flush:
    case Stage::barrier_before:
    case Stage::barrier_after:
      return flush_done(slot);
    case Stage::old_data:
      if (slot.operation.result < 0) return complete(slot, slot.operation.result);
      return merging_.push(slot);
    case Stage::read:
    case Stage::write:
    case Stage::barrier_write:
      return data_done(slot);
  }
}

void RequestEngine::data_done(Slot& slot) {
  const int32_t result = slot.operation.result;
  if (result == 0 && slot.stage == Stage::barrier_write)
    return start_io(slot, Stage::barrier_after, Operation::Kind::flush);
  if (result == 0 && slot.stage == Stage::read) return going_.push(slot);
  complete(slot, result);
}

void RequestEngine::flush_done(Slot& slot) {
  if (slot.stage != Stage::barrier_before || slot.valid.pages == 0) return complete(slot, 0);
  if (!needs_old_data(slot)) return start_io(slot, Stage::barrier_write, Operation::Kind::write);
  start_write(slot);
}

// The blocks around small writes are here: put the guest's parts over them, then write all of it.
void RequestEngine::merge() {
  const std::span<Slot* const> merging = merging_.take();
  transport_.fetch(merging);
  for (Slot* slot : merging) {
    if (slot->fault) {
      complete(*slot, -EFAULT);
      continue;
    }
    const bool barrier = slot->valid.kind == Kind::barrier;
    start_io(*slot, barrier ? Stage::barrier_write : Stage::write, Operation::Kind::write);
  }
}

// Data of all reads of this round goes out in one call.
void RequestEngine::deliver() {
  const std::span<Slot* const> going = going_.take();
  transport_.deliver(going);
  for (Slot* slot : going) complete(*slot, slot->fault ? -EFAULT : 0);
}

void RequestEngine::complete(Slot& slot, int32_t result) {
  leave_in_flight(slot);
  slot.result = result;
  count(slot);
  over_.push(slot);
}

void RequestEngine::count(const Slot& slot) {
  if (slot.fault) return;  // the asker's own, which the transport counts
  if (slot.result < 0) counters_.io_errors.add();
  const uint64_t bytes = slot.valid.sector_count * kSectorBytes;
  switch (slot.valid.kind) {
    case Kind::read:
      counters_.reads.add();
      return counters_.read_bytes.add(bytes);
    case Kind::barrier:
      counters_.barriers.add();
      return counters_.write_bytes.add(bytes);
    case Kind::write:
      counters_.writes.add();
      return counters_.write_bytes.add(bytes);
    case Kind::flush:
      return counters_.flushes.add();
    case Kind::discard:
      counters_.discards.add();
      return counters_.discard_bytes.add(bytes);
    case Kind::map:
      return;
  }
}

}  // namespace ringdisk
