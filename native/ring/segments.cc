// SPDX-License-Identifier: Apache-2.0
// Step 4 and its counterpart: data moved between an engine's memory and the guest's pages, of all
// requests of a round together.
#include <array>

#include "ring/queue.h"

namespace ringdisk {

void Queue::fetch(std::span<Slot* const> writes) {
  for (Slot* slot : writes) move(ours(*slot), false);
  reactor_.transfer().flush();
}

void Queue::deliver(std::span<Slot* const> reads) {
  for (Slot* slot : reads) move(ours(*slot), true);
  reactor_.transfer().flush();
}

// At once if its pages stay mapped, else with the next flush of the reactor's transfer.
void Queue::move(RingSlot& slot, bool to_guest) {
  counters_->copied_bytes.add(slot.valid.sector_count * kSectorBytes);
  if (persistent_ && move_mapped(slot, to_guest)) return;
  counters_->grant_copies.add(slot.segments.size());
  reactor_.transfer().add(shared_->domid, slot.segments, slot.data(), to_guest,
                          shared_->grants == GrantStrategy::map, slot.fault);
}

bool Queue::move_mapped(RingSlot& slot, bool to_guest) {
  std::array<std::byte*, kIndirectSegmentsMax> pages;
  if (!persistent_->reach(slot.segments, pages)) return false;
  copy_segments(slot.segments, pages, slot.data(), to_guest);
  return true;
}

}  // namespace ringdisk
