// SPDX-License-Identifier: Apache-2.0
// Memory for a request's data.
//
// I/O never runs on a guest's own pages, mapped or not: a device may hold them longer than we live,
// and the kernel can't take back a page that is in use (see D2 in ARCHITECTURE.md). What the medium
// gets is then also what was checked: the guest can't change it under way.
#include "medium/block_map.h"
#include "request/request_engine.h"

namespace ringdisk {

// False: no bounce memory now; nothing was taken.
bool RequestEngine::attach(Slot& slot) {
  slot.bounce = {};
  slot.fault = false;
  slot.offset = slot.valid.sector * kSectorBytes;
  slot.length = slot.valid.sector_count * kSectorBytes;
  if (slot.valid.pages == 0) return true;
  if (slot.valid.kind == ValidRequest::Kind::map) {
    slot.bounce = bounce_.allocate(kMapBytes);
    return !slot.bounce.memory.empty();
  }
  const uint64_t first = slot.offset / io_alignment_ * io_alignment_;
  const uint64_t end =
      (slot.offset + slot.length + io_alignment_ - 1) / io_alignment_ * io_alignment_;
  slot.bounce = bounce_.allocate(end - first);
  if (slot.bounce.memory.empty()) return false;
  slot.offset = first;
  slot.length = end - first;
  return true;
}

void RequestEngine::detach(Slot& slot) {
  if (!slot.bounce.memory.empty()) bounce_.release(slot.bounce);
  slot.bounce = {};
}

// A write that covers part of a medium block only: the rest of the block must be read first.
bool RequestEngine::needs_old_data(const Slot& slot) const {
  return changes(slot) && slot.length != slot.valid.sector_count * kSectorBytes;
}

// A write whose data comes in before anything else is done.
bool RequestEngine::brings_data(const Slot& slot) const {
  const bool writes = slot.valid.kind == Kind::write || slot.valid.kind == Kind::barrier;
  return writes && slot.valid.pages > 0 && !needs_old_data(slot);
}

}  // namespace ringdisk
