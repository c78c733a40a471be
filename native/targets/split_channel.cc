// SPDX-License-Identifier: Apache-2.0
#include "targets/split_channel.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "targets/part.h"

namespace ringdisk {
namespace {

// Of the whole, in its own scratch fields: `done` counts bytes that have been given to parts,
// `part` the parts under way; `result` is the first error.
bool has_begun(const Operation& whole) {
  return whole.done == whole.length || whole.result != 0;  // after an error none begins
}

bool is_over(const Operation& whole) { return has_begun(whole) && whole.part == 0; }

// In the list of those that wait.
bool& waits(Operation& whole) { return *reinterpret_cast<bool*>(whole.scratch); }

}  // namespace

SplitChannel::SplitChannel(std::unique_ptr<TargetChannel> inner, uint64_t bytes_max,
                           size_t parts_max)
    : ChannelBefore(std::move(inner)), bytes_max_(bytes_max), parts_(parts_max) {
  RD_ASSERT(bytes_max_ > 0 && parts_max > 0);
  for (Operation& part : parts_) free_.push_back(&part);
}

bool SplitChannel::start(Operation& operation) {
  using Kind = Operation::Kind;
  const bool moves_data = operation.kind == Kind::read || operation.kind == Kind::write;
  if (!moves_data || operation.length <= bytes_max_) return hand_on(operation);
  begin_parts(operation);
  operation.result = 0;
  waits(operation) = false;
  if (!waiting_ && start_parts(operation)) return is_over(operation);
  waits(operation) = true;
  operation.next = nullptr;
  *waiting_tail_ = &operation;
  waiting_tail_ = &operation.next;
  return false;
}

// Whether all have begun that will.
bool SplitChannel::start_parts(Operation& whole) {
  while (!has_begun(whole)) {
    if (free_.empty()) return false;
    Operation& part = take_part(whole);
    if (inner_->start(part)) part_done(part);
  }
  return true;
}

Operation& SplitChannel::take_part(Operation& whole) {
  Operation& part = *free_.back();
  free_.pop_back();
  part = {};
  part.kind = whole.kind;
  part.offset = whole.offset + whole.done;
  part.length = std::min(whole.length - whole.done, bytes_max_);
  part.memory = whole.memory + whole.done;
  part.registered = whole.registered;
  part.channel = inner_.get();
  part.sink = this;
  part.owner = &whole;
  whole.done += part.length;
  whole.part++;
  return part;
}

void SplitChannel::part_done(const Operation& part) {
  auto& whole = *static_cast<Operation*>(part.owner);
  whole.part--;
  if (part.result < 0 && whole.result == 0) whole.result = part.result;
  free_.push_back(&parts_[static_cast<size_t>(&part - parts_.data())]);
}

// One that waits is told of when it has left the list, whichever of its parts came back last.
void SplitChannel::finished(Operation& part) {
  auto& whole = *static_cast<Operation*>(part.owner);
  part_done(part);
  if (!waits(whole) && is_over(whole)) whole.sink->finished(whole);
  start_waiting();
}

void SplitChannel::start_waiting() {
  while (Operation* whole = waiting_) {
    if (!start_parts(*whole)) return;
    waiting_ = whole->next;
    if (!waiting_) waiting_tail_ = &waiting_;
    waits(*whole) = false;
    if (is_over(*whole)) whole->sink->finished(*whole);
  }
}

}  // namespace ringdisk
