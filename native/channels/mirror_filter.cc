// SPDX-License-Identifier: Apache-2.0
#include "channels/mirror_filter.h"

#include "channels/mirror_home.h"

namespace ringdisk {

MirrorFilter::MirrorFilter(MirrorHome& home, MirrorState& state, const ChannelContext& context)
    : Filter(kId), home_(home), state_(state), errands_(context) {}

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
  errands_.cancel_discards();
  ChannelBefore::cancel_discards();
}

bool MirrorFilter::send(Operation& operation) {
  errands_.send(errands_.make(operation), home_);
  return false;
}

}  // namespace ringdisk
