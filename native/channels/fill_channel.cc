// SPDX-License-Identifier: Apache-2.0
#include "channels/fill_channel.h"

#include <algorithm>
#include <utility>

#include "targets/part.h"

namespace ringdisk {

FillChannel::FillChannel(FillHome& home, FillState& state, std::unique_ptr<TargetChannel> local,
                         const ChannelContext& context)
    : ChannelBefore(std::move(local)), home_(home), state_(state), errands_(context) {}

bool FillChannel::start(Operation& operation) {
  using Kind = Operation::Kind;
  if (state_.straight.load(std::memory_order_acquire)) return hand_on(operation);
  if (operation.kind == Kind::flush) {
    // Whatever was answered by now relies on bits that are durable.
    if (state_.unsaved.load(std::memory_order_acquire) == 0) return hand_on(operation);
    return send(operation, FillWork::Kind::save);
  }
  if (state_.is_here(operation.offset, operation.length)) return hand_on(operation);
  if (operation.kind == Kind::map) return map_as_data(operation);  // a hole may be the source's
  return send(operation, FillWork::Kind::use);
}

void FillChannel::cancel_discards() {
  errands_.cancel_discards();
  ChannelBefore::cancel_discards();
}

bool FillChannel::send(Operation& operation, FillWork::Kind kind) {
  FillErrand& errand = errands_.make(operation);
  errand.kind = kind;
  errand.result = 0;
  errand.whole_first = errand.whole_end = 0;
  if (kind == FillWork::Kind::use) cover(errand, operation);
  errands_.send(errand, home_);
  return false;
}

// Which chunks it touches, and which of them it writes whole.
void FillChannel::cover(FillErrand& errand, const Operation& operation) const {
  const uint64_t chunk = state_.chunk_bytes();
  const uint64_t end = operation.offset + operation.length;
  errand.first = operation.offset / chunk;
  errand.end = std::min((end + chunk - 1) / chunk, state_.chunks);
  if (operation.kind == Operation::Kind::read) return;
  errand.whole_first = (operation.offset + chunk - 1) / chunk;
  // Of the last one as much as the source has.
  errand.whole_end = end >= state_.header.source_bytes ? state_.chunks : end / chunk;
  errand.whole_end = std::max(errand.whole_first, errand.whole_end);
}

}  // namespace ringdisk
