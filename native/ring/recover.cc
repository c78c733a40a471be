// SPDX-License-Identifier: Apache-2.0
// Taking over the ring of a process that died. The frontend noticed nothing: its ring and its
// grants are as they were, its notifications were dropped, and its requests are either still in the
// ring or in the journal. What the journal's states mean:
//
//   FREE       answered, and the answer was shown; or never taken
//   INFLIGHT   taken, not answered: carried out again from our private copy
//   DONE       answered at response_index; shown if that lies before rsp_prod, else shown now
//
// Every response shown stands for one request taken, so the requests taken are those shown plus
// those alive: no counter of taken requests is needed on the hot path.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/kill_point.h"
#include "metrics/probes.h"
#include "protocol/decode.h"
#include "ring/queue.h"

namespace ringdisk {

// Returns why the ring cannot be taken over, else nullptr. Only looks: the ring and the journal are
// as they were, and stay so unless serve() is called.
const char* Queue::examine() {
  if (const char* wrong = sort_records(remains_)) return wrong;
  const uint32_t shown = ring_->rsp_prod();
  const size_t alive = remains_.unfinished.size() + remains_.undelivered.size();
  resumed_at_ = shown + static_cast<uint32_t>(alive);
  ring_->resume(shown, resumed_at_);
  if (const char* wrong = check_order(remains_)) return wrong;
  RD_KILL_POINT("recover:sorted");
  return nullptr;
}

// Does what examine() found to be done.
void Queue::recover() {
  const Remains remains = std::exchange(remains_, {});
  recovering_ = true;
  journal_->count_process();
  // In the order of publish(): whoever takes over from us if we die here finds the same.
  journal_->set_published(ring_->rsp_prod());
  RD_KILL_POINT("recover:noted");
  for (JournalSlot* record : remains.delivered) {
    Journal::set_state(*record, JournalState::free);
    RD_KILL_POINT("recover:one-freed");
  }
  for (RingSlot* slot : remains.undelivered) {
    const JournalSlot& record = (*journal_)[slot->index];
    slot->request = decode(shared_->abi, record.bytes);
    respond(*slot, record.status);
    RD_KILL_POINT("recover:one-redelivered");
  }
  RD_KILL_POINT("recover:redelivered");
  counters_->replayed.add(remains.unfinished.size());
  counters_->redelivered.add(remains.undelivered.size());
  RD_PROBE(ring_recovered, vbd_name_, index_, remains.unfinished.size(),
           remains.undelivered.size());
  // In batches as when they were taken.
  for (std::span<RingSlot* const> rest = remains.unfinished; !rest.empty();) {
    const size_t count = std::min<size_t>(rest.size(), kTakeBatch);
    accept(rest.first(count));
    rest = rest.subspan(count);
    RD_KILL_POINT("recover:batch-accepted");
  }
  reactor_.mark_dirty(*this);
}

// Once: when all that was taken before us is answered, and the ring has been looked at. A request
// that crashes the process has done so by then.
void Queue::tell_when_recovered() {
  for (uint32_t i = 0; i < journal_->slots(); i++) {
    JournalSlot& record = (*journal_)[i];
    const bool ours = static_cast<int32_t>(record.request_index - resumed_at_) >= 0;
    if (!ours && Journal::state(record) != JournalState::free) return;
  }
  recovering_ = false;
  shared_->events->queue_recovered(shared_->vbd, index_);
}

// Finds what the predecessor left, in ring order. Returns what is wrong, if anything.
const char* Queue::sort_records(Remains& remains) {
  const uint32_t published = journal_->published();
  // The frontend can write rsp_prod: it may only be ahead by answers that were being shown.
  const uint32_t ahead = ring_->rsp_prod() - published;
  if (ahead > journal_->slots()) return "rsp_prod is not where the journal knows it to be";
  uint32_t shown = 0;
  for (uint32_t i = 0; i < journal_->slots(); i++) {
    JournalSlot& record = (*journal_)[i];
    switch (Journal::state(record)) {
      case JournalState::free:
        break;
      case JournalState::in_flight:
        remains.unfinished.push_back(&slots_.adopt(i));
        break;
      case JournalState::done:
        if (record.response_index - published < ahead) shown++;
        // Also what lies behind `published`: the predecessor died between noting and freeing.
        if (static_cast<int32_t>(record.response_index - ring_->rsp_prod()) < 0)
          remains.delivered.push_back(&record);
        else
          remains.undelivered.push_back(&slots_.adopt(i));
        break;
      default:
        return "a journal record is in no known state";
    }
  }
  if (shown != ahead) return "rsp_prod is ahead of every answer the journal knows";
  const auto by = [this](auto field) {
    return [this, field](const RingSlot* a, const RingSlot* b) {
      return static_cast<int32_t>((*journal_)[a->index].*field - (*journal_)[b->index].*field) < 0;
    };
  };
  std::ranges::sort(remains.unfinished, by(&JournalSlot::request_index));
  std::ranges::sort(remains.undelivered, by(&JournalSlot::response_index));
  return nullptr;
}

// A wrong answer is worse than none: everything must fit before anything is shown.
const char* Queue::check_order(const Remains& remains) const {
  if (ring_->waiting() == Ring::kImpossible) return "impossible producer index after a restart";
  std::vector<uint32_t> taken;
  taken.reserve(remains.unfinished.size());
  for (const RingSlot* slot : remains.unfinished)
    taken.push_back((*journal_)[slot->index].request_index);
  for (uint32_t i = 0; i < remains.undelivered.size(); i++) {
    const JournalSlot& record = (*journal_)[remains.undelivered[i]->index];
    if (record.response_index != ring_->rsp_prod() + i) return "the journal's answers leave a gap";
    taken.push_back(record.request_index);
  }
  std::ranges::sort(taken);
  if (std::ranges::adjacent_find(taken) != taken.end())
    return "two journal records are of one request";
  const auto untaken = [this](uint32_t index) {
    return static_cast<int32_t>(index - ring_->req_cons()) >= 0;
  };
  if (std::ranges::any_of(taken, untaken))
    return "a journal record is of a request that was not taken yet";
  return nullptr;
}

}  // namespace ringdisk
