// SPDX-License-Identifier: Apache-2.0
// Step 4: memory for a request's data. Directly in the guest's persistently mapped pages, or in
// bounce memory that grants are copied into and out of.
#include <algorithm>

#include "blkif/queue.h"

namespace ringdisk {
namespace {

size_t bytes_of(const Segment& segment) {
  return (segment.last_sect - segment.first_sect + 1u) * kSectorBytes;
}

}  // namespace

// False: no bounce memory now; nothing was taken.
bool Queue::attach(Slot& slot) {
  slot.direct = false;
  slot.bounce = {};
  slot.pages = {};
  slot.offset = slot.valid.sector * kSectorBytes;
  slot.length = slot.valid.sector_count * kSectorBytes;
  if (slot.valid.segment_count == 0) return true;
  return attach_direct(slot) || attach_bounce(slot);
}

bool Queue::attach_direct(Slot& slot) {
  if (!persistent_ || !fits_directly(slot)) return false;
  slot.pages = slots_->pages(slot, slot.valid.segment_count);
  if (!persistent_->pin(slot.segments, slot.pages)) {
    slot.pages = {};
    return false;
  }
  slot.direct = true;
  return true;
}

// Whether the medium takes the guest's pages as they lie.
bool Queue::fits_directly(const Slot& slot) const {
  if ((slot.offset | slot.length) % io_alignment_ != 0) return false;
  if (io_alignment_ <= kSectorBytes && memory_alignment_ <= kSectorBytes) return true;
  return std::ranges::all_of(slot.segments, [this](const Segment& segment) {
    return segment.first_sect * kSectorBytes % memory_alignment_ == 0 &&
           bytes_of(segment) % io_alignment_ == 0;
  });
}

bool Queue::attach_bounce(Slot& slot) {
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

// Anew for each operation: a slot has several when it is a barrier or needs old data.
void Queue::point_at_memory(Slot& slot) {
  Operation& operation = slot.operation;
  if (!slot.direct) {
    slot.direct_iovecs[0] = {slot.bounce.memory.data(), slot.length};
    operation.iovecs = slot.direct_iovecs.data();
    operation.iovec_count = 1;
    operation.registered = slot.bounce.registered;
    return;
  }
  const std::span<iovec> iovecs = slots_->iovecs(slot, slot.valid.segment_count);
  for (size_t i = 0; i < iovecs.size(); i++)
    iovecs[i] = {slot.pages[i].address + slot.segments[i].first_sect * kSectorBytes,
                 bytes_of(slot.segments[i])};
  operation.iovecs = iovecs.data();
  operation.iovec_count = static_cast<uint32_t>(iovecs.size());
}

void Queue::move(Slot& slot, bool to_guest) {
  counters_->grant_copies.add(slot.segments.size());
  counters_->copied_bytes.add(slot.valid.sector_count * kSectorBytes);
  reactor_.transfer().add(shared_->domid, slot.segments, guest_part(slot), to_guest,
                          shared_->grants == GrantStrategy::map, slot.fault);
}

void Queue::detach(Slot& slot) {
  if (slot.direct) persistent_->unpin(slot.pages);
  if (!slot.bounce.memory.empty()) bounce_.release(slot.bounce);
  slot.direct = false;
  slot.bounce = {};
}

}  // namespace ringdisk
