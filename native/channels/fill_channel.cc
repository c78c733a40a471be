// SPDX-License-Identifier: Apache-2.0
#include "channels/fill_channel.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "targets/lanes.h"
#include "targets/part.h"

namespace ringdisk {

FillChannel::FillChannel(FillHome& home, FillState& state, std::unique_ptr<TargetChannel> local,
                         const ChannelContext& context)
    : ChannelBefore(std::move(local)),
      home_(home),
      state_(state),
      lanes_(context.lanes),
      errands_(context.depth) {
  for (FillErrand& errand : errands_) free_.push(errand);
}

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
  discards_are_cancelled_.store(true, std::memory_order_relaxed);
  ChannelBefore::cancel_discards();
}

bool FillChannel::send(Operation& operation, FillWork::Kind kind) {
  RD_ASSERT(!free_.empty());
  FillErrand& errand = *free_.pop();
  errand.kind = kind;
  errand.from = this;
  errand.asked = &operation;
  errand.operation = operation;  // here: it may be cancelled while the home has it
  errand.result = 0;
  errand.whole_first = errand.whole_end = 0;
  if (kind == FillWork::Kind::use) cover(errand, operation);
  home_.post([&home = home_, &errand] { home.take(errand); });
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

void FillChannel::back(FillErrand& errand) {
  lanes_.post([this, &errand] { over(errand); });
}

void FillChannel::over(FillErrand& errand) {
  Operation& operation = *errand.asked;
  operation.result = errand.result;
  free_.push(errand);
  operation.sink->finished(operation);
}

}  // namespace ringdisk
