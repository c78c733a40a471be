// SPDX-License-Identifier: Apache-2.0
// The engine's half of limits: see limiter.h.
#include <cerrno>
#include <utility>

#include "request/request_engine.h"

namespace ringdisk {

std::unique_ptr<Limiter> RequestEngine::make_limiter(std::shared_ptr<Limits> limits) {
  return std::make_unique<Limiter>(std::move(limits), context_.depth, alarms_, counters_);
}

// A close does not wait for tokens. What has none is answered with an error and not carried out:
// else a guest that fills its rings and leaves, again and again, would know no limit.
void RequestEngine::pass_limits() {
  limiter_->pass(waiting_, reactor_.recent_ns());
  if (!closing_ || limiter_->empty()) return;
  SlotList hopeless = limiter_->take_all(waiting_);
  while (Slot* slot = hopeless.pop()) {
    slot->fault = false;
    slot->result = -ECANCELED;
    over_.push(*slot);
  }
  reactor_.mark_dirty(transport_);
}

void RequestEngine::limit(std::shared_ptr<Limits> limits) {
  if (limiter_) {
    SlotList later = limiter_->take_all(waiting_);
    while (Slot* slot = later.pop()) waiting_.push(*slot);
  }
  limiter_ = limits ? make_limiter(std::move(limits)) : nullptr;
  reactor_.activate(transport_);
}

void RequestEngine::limits_changed() {
  if (limiter_) limiter_->forget();
  reactor_.activate(transport_);
}

}  // namespace ringdisk
