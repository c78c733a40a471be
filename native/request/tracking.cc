// SPDX-License-Identifier: Apache-2.0
// Which bitmaps an engine's writes are marked in: those of its target. They change while the guest
// runs, and unlike other filters without a pause: the one that marks has nothing to do with an
// operation once it has handed it on, so it comes and goes beside what is in flight. What is, is
// marked as well when a bitmap comes: so from then on the bitmap has all that a copy of the medium,
// begun later, may not have seen.
//
// An engine looks when it is made, when its transport begins to serve and when it is told
// (Reactor::look_at_targets()). A reactor that was told after Target::track() has every engine that
// can have something in flight follow; engines made later find it.
#include "channels/marking_filter.h"
#include "request/request_engine.h"

namespace ringdisk {

void RequestEngine::follow_target() {
  std::shared_ptr<const Bitmaps> tracked = target_->tracked();
  if (tracked == tracked_ || ended_) return;
  tracked_ = tracked;
  if (stack_.has(MarkingFilter::kId)) stack_.remove(MarkingFilter::kId);
  if (!tracked) return;
  for (const Slot* slot = in_flight_; slot; slot = slot->in_flight_next)
    if (changes(*slot)) MarkingFilter::mark(*tracked, slot->offset, slot->length);
  stack_.put(std::make_unique<MarkingFilter>(std::move(tracked)));
}

}  // namespace ringdisk
