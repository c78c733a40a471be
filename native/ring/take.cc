// SPDX-License-Identifier: Apache-2.0
// Steps 1 to 3: requests leave the ring, indirect segments are fetched, all is checked.
#include <array>

#include "base/guest_memory.h"
#include "base/kill_point.h"
#include "metrics/probes.h"
#include "protocol/decode.h"
#include "ring/queue.h"

namespace ringdisk {

// Returns ring_->waiting(); those that are new get the time of this look, all of them the same. The
// clock is not read for it: what it told about a round ago makes latencies longer by as much.
uint32_t Queue::look() {
  const uint32_t waiting = ring_->waiting();
  if (waiting == 0 || waiting == Ring::kImpossible) return waiting;
  const uint32_t end = ring_->req_cons() + waiting;
  // A producer that went backwards is not new.
  const auto fresh = static_cast<int32_t>(end - seen_prod_);
  if (fresh <= 0) return waiting;
  const uint64_t now = reactor_.recent_ns();
  const uint32_t mask = ring_->entries() - 1;
  for (uint32_t index = end - std::min<uint32_t>(fresh, waiting); index != end; index++)
    seen_ns_[index & mask] = now;
  seen_prod_ = end;
  return waiting;
}

// Returns how many requests were taken: at most kTakeBatch, so that no queue starves the others.
uint32_t Queue::take() {
  if (resume_at_us_ != 0 && Reactor::now_us() >= resume_at_us_) resume_at_us_ = 0;
  if (broken_ || closing_) return 0;
  const uint32_t waiting = look();
  if (waiting == 0 || resume_at_us_ != 0 || !requests_.takes_more()) return 0;
  if (waiting == Ring::kImpossible) {
    break_ring("impossible producer index");
    return 0;
  }
  std::array<RingSlot*, kTakeBatch> batch;
  uint32_t count = 0;
  while (count < std::min(waiting, kTakeBatch)) {
    RingSlot* slot = slots_.allocate();
    if (!slot) break;  // answers that are not published yet
    JournalSlot& record = (*journal_)[slot->index];
    record.request_index = ring_->take(record.bytes);
    slot->seen_ns = seen_ns_[record.request_index & (ring_->entries() - 1)];
    RD_KILL_POINT("take:one-copied");
    if (!RD_PLANTED("lost")) Journal::set_state(record, JournalState::in_flight);
    batch[count++] = slot;
  }
  RD_KILL_POINT("take:copied");
  accept(std::span(batch).first(count));
  RD_KILL_POINT("take:checked");
  woken_ = false;
  vain_wakeups_ = 0;
  if (count > 0) counters_->take_batches.add();
  counters_->taken.add(count);
  return count;
}

// Requests whose bytes are in the journal, new ones or a dead process's, are decoded and checked.
void Queue::accept(std::span<RingSlot* const> batch) {
  for (RingSlot* slot : batch) {
    slot->request = decode(shared_->abi, (*journal_)[slot->index].bytes);
    slot->fault = false;
  }
  fetch_indirect(batch);
  check(batch);
}

// One grant copy call for the segments of all indirect requests of this batch.
void Queue::fetch_indirect(std::span<RingSlot* const> batch) {
  bool any = false;
  for (RingSlot* slot : batch) {
    if (slot->request.operation != wire::kIndirect) continue;
    if (check_segment_count(slot->request, shared_->geometry) != Rejection::none) continue;
    counters_->indirect.add();
    fetch_indirect_page(*slot);
    any = true;
  }
  if (any) reactor_.transfer().flush();
}

void Queue::fetch_indirect_page(RingSlot& slot) {
  const std::span<Segment> segments = arena_.segments(slot, slot.request.segment_count);
  const GrantRef gref = slot.request.indirect_gref;
  if (persistent_) {
    // The frontend grants these pages persistently too.
    const Segment whole_page{gref, 0, kSectorsPerPage - 1, 0};
    std::byte* page;
    if (persistent_->reach({&whole_page, 1}, {&page, 1}))
      return copy_once(segments.data(), page, segments.size_bytes());
  }
  reactor_.transfer().add_piece(shared_->domid, gref, 0,
                                static_cast<uint16_t>(segments.size_bytes()),
                                reinterpret_cast<std::byte*>(segments.data()), false, slot.fault);
}

void Queue::check(std::span<RingSlot* const> batch) {
  Geometry geometry = shared_->geometry;
  geometry.capacity_sectors = shared_->capacity_sectors.load(std::memory_order_relaxed);
  for (RingSlot* slot : batch) {
    RD_POISON(slot->request.sector);
    Rejection rejection = check_segment_count(slot->request, geometry);
    if (rejection == Rejection::none && slot->fault) rejection = Rejection::indirect_page;
    if (rejection == Rejection::none) {
      slot->segments = arena_.segments(*slot, slot->request.segment_count);
      rejection = validate(slot->request, slot->segments, geometry, slot->valid);
    }
    if (rejection != Rejection::none) {
      reject(*slot, rejection);
      continue;
    }
    const ValidRequest& valid = slot->valid;
    RD_PROBE(request_taken, vbd_name_, index_, slot->index, static_cast<int>(valid.kind),
             valid.sector, valid.sector_count);
    requests_.accept(*slot);
  }
}

void Queue::reject(RingSlot& slot, Rejection rejection) {
  const bool unsupported = is_unsupported(rejection);
  (unsupported ? counters_->unsupported : counters_->rejected).add();
  resume_at_us_ = Reactor::now_us() + kRejectPenaltyUs;
  slot.seen_ns = 0;
  respond(slot, unsupported ? wire::kNotSupported : wire::kError);
  reactor_.mark_dirty(*this);
}

void Queue::break_ring(const char* reason) {
  broken_ = true;
  counters_->broken.set(1);
  RD_PROBE(ring_broken, vbd_name_, index_, reason);
  shared_->events->ring_broken(shared_->vbd, index_, reason);
}

}  // namespace ringdisk
