// SPDX-License-Identifier: Apache-2.0
// Step 4: memory for a request's data, and the data moved between it and the guest's pages.
//
// I/O never runs on a guest's own pages, mapped or not: a device may hold them longer than we live,
// and the kernel can't take back a page that is in use (see D2 in ARCHITECTURE.md). What the medium
// gets is then also what was checked: the guest can't change it under way.
#include <array>

#include "ring/queue.h"

namespace ringdisk {

// False: no bounce memory now; nothing was taken.
bool Queue::attach(Slot& slot) {
  slot.bounce = {};
  slot.offset = slot.valid.sector * kSectorBytes;
  slot.length = slot.valid.sector_count * kSectorBytes;
  if (slot.valid.segment_count == 0) return true;
  const uint64_t first = slot.offset / io_alignment_ * io_alignment_;
  const uint64_t end =
      (slot.offset + slot.length + io_alignment_ - 1) / io_alignment_ * io_alignment_;
  slot.bounce = bounce_.allocate(end - first);
  if (slot.bounce.memory.empty()) return false;
  slot.offset = first;
  slot.length = end - first;
  return true;
}

// A write that covers part of a medium block only: the rest of the block must be read first.
bool Queue::needs_old_data(const Slot& slot) const {
  return slot.valid.kind != ValidRequest::Kind::read &&
         slot.length != slot.valid.sector_count * kSectorBytes;
}

std::byte* Queue::guest_part(const Slot& slot) const {
  return slot.bounce.memory.data() + (slot.valid.sector * kSectorBytes - slot.offset);
}

// At once if its pages stay mapped, else with the next flush of the reactor's transfer.
void Queue::move(Slot& slot, bool to_guest) {
  counters_->copied_bytes.add(slot.valid.sector_count * kSectorBytes);
  if (persistent_ && move_mapped(slot, to_guest)) return;
  counters_->grant_copies.add(slot.segments.size());
  reactor_.transfer().add(shared_->domid, slot.segments, guest_part(slot), to_guest,
                          shared_->grants == GrantStrategy::map, slot.fault);
}

bool Queue::move_mapped(Slot& slot, bool to_guest) {
  std::array<std::byte*, kIndirectSegmentsMax> pages;
  if (!persistent_->reach(slot.segments, pages)) return false;
  copy_segments(slot.segments, pages, guest_part(slot), to_guest);
  return true;
}

void Queue::detach(Slot& slot) {
  if (!slot.bounce.memory.empty()) bounce_.release(slot.bounce);
  slot.bounce = {};
}

}  // namespace ringdisk
