// SPDX-License-Identifier: Apache-2.0
#include "channels/mirror_filter.h"

#include "base/assert.h"
#include "channels/mirror_home.h"
#include "targets/lanes.h"

namespace ringdisk {

MirrorFilter::MirrorFilter(MirrorHome& home, MirrorState& state, const ChannelContext& context)
    : Filter(kId), home_(home), state_(state), lanes_(context.lanes), errands_(context.depth) {
  for (MirrorErrand& errand : errands_) free_.push(errand);
}

// What the home has in hand when the mirror is over may come to the source beside what goes there
// directly. No guest can tell: what overlaps and is under way together has no order.
bool MirrorFilter::start(Operation& operation) {
  if (state_.over.load(std::memory_order_acquire)) return hand_on(operation);
  switch (operation.kind) {
    case Operation::Kind::read:
    case Operation::Kind::map:
      return hand_on(operation);
    case Operation::Kind::flush:
      if (!state_.sync.load(std::memory_order_acquire)) return hand_on(operation);
      return send(operation);
    case Operation::Kind::write:
    case Operation::Kind::discard:
      return send(operation);
  }
  return hand_on(operation);
}

void MirrorFilter::cancel_discards() {
  discards_are_cancelled_.store(true, std::memory_order_relaxed);
  ChannelBefore::cancel_discards();
}

bool MirrorFilter::send(Operation& operation) {
  RD_ASSERT(!free_.empty());
  MirrorErrand& errand = *free_.pop();
  errand.from = this;
  errand.asked = &operation;
  errand.operation = operation;  // here: it may be cancelled while the home has it
  home_.post([&home = home_, &errand] { home.take(errand); });
  return false;
}

void MirrorFilter::back(MirrorErrand& errand) {
  lanes_.post([this, &errand] { over(errand); });
}

void MirrorFilter::over(MirrorErrand& errand) {
  Operation& operation = *errand.asked;
  operation.result = errand.result;
  free_.push(errand);
  operation.sink->finished(operation);
}

}  // namespace ringdisk
