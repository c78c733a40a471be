// SPDX-License-Identifier: Apache-2.0
// Step 8: the guest's answer. Its order is the journal's: DONE with index and status, the ring
// entry, one publish for all, FREE. Memory was let go before.
#include <cerrno>

#include "base/kill_point.h"
#include "metrics/probes.h"
#include "ring/queue.h"

namespace ringdisk {
namespace {

int16_t status_of(const Slot& slot) {
  if (slot.result >= 0) return wire::kOkay;
  const bool discard = slot.valid.kind == ValidRequest::Kind::discard;
  return discard && slot.result == -EOPNOTSUPP ? wire::kNotSupported : wire::kError;
}

}  // namespace

// Within the loop that answers a round, and in respond() for the others.
[[gnu::always_inline]] inline void Queue::write_answer(RingSlot& slot, int16_t status) {
  JournalSlot& record = (*journal_)[slot.index];
  record.response_index = ring_->rsp_prod();
  record.status = status;
  RD_KILL_POINT("answer:before-done");
  if (!RD_PLANTED("duplicate")) Journal::set_state(record, JournalState::done);
  RD_KILL_POINT("answer:done");
  ring_->respond(slot.request.guest_id, slot.request.answered_operation(), status);
  RD_KILL_POINT("answer:written");
  answered_.push(slot);
}

void Queue::answer(std::span<Slot* const> over) {
  for (Slot* slot : over) {
    if (slot->fault)
      reject(ours(*slot), Rejection::bad_grant);
    else
      write_answer(ours(*slot), status_of(*slot));
  }
}

void Queue::respond(RingSlot& slot, int16_t status) { write_answer(slot, status); }

// All answers of this round become visible at once, with at most one notification.
void Queue::publish() {
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
  while (Slot* next = answered.pop()) {
    RingSlot& slot = ours(*next);
    const auto kind = static_cast<uint32_t>(slot.valid.kind);
    const uint64_t latency = slot.seen_ns != 0 ? now - slot.seen_ns : 0;
    if (latency != 0) counters_->latency[kind].record(latency);
    slot.seen_ns = 0;
    JournalSlot& record = (*journal_)[slot.index];
    RD_PROBE(request_answered, vbd_name_, index_, slot.index, kind, record.status, latency);
    Journal::set_state(record, JournalState::free);
    slots_.release(slot);
    count++;
    RD_KILL_POINT("publish:one-freed");
  }
  counters_->batches.add();
  counters_->answered.add(count);
  reactor_.note_answers(count);
}

}  // namespace ringdisk
