// SPDX-License-Identifier: Apache-2.0
// The map on its medium, which may say of a chunk that it is here only when the chunk's data is
// durable; and must say so before a guest's flush is answered, or what was written to the chunk
// would be hidden by the source after the host's death. So a save is, one at a time:
//   1. the bits that are set now are copied;
//   2. the disk is flushed: all data those bits stand for was written before;
//   3. the blocks of the map that have changed are written, and the map's medium is flushed.
// Flushes that come meanwhile share the next. While a block is written it may be torn, but each of
// its bits is either new or old, and both are right.
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "channels/fill_channel.h"
#include "channels/fill_home.h"

namespace ringdisk {

void FillHome::save_is_due() {
  enter([this] {
    save_due_ = true;
    start_save();
  });
}

void FillHome::do_alone(const Operation& operation, TargetChannel& channel,
                        std::function<void(int32_t)> then) {
  RD_ASSERT(!own_.then);
  own_.then = std::move(then);
  own_.operation = operation;
  submit(own_.operation, own_, channel);
}

void FillHome::start_save() {
  if (saving_ || !begun_ || (saves_.empty() && !save_due_)) return;
  saving_ = true;
  save_due_ = false;
  save_result_ = 0;
  serving_ = saves_.take();
  context_.alarms.cancel(save_alarm_);
  snapshot();
  do_alone({.kind = Operation::Kind::flush}, *local_, [this](int32_t result) {
    if (result < 0 || writing_.empty()) return end_save(result);
    for (FillMapWrite& write : map_writes_) write_next(write);
  });
}

void FillHome::snapshot() {
  writing_.swap(dirty_);
  dirty_.clear();
  next_write_ = 0;
  for (const uint64_t index : writing_) {
    is_dirty_[index] = false;
    auto* image = reinterpret_cast<uint64_t*>(block(1 + index));
    for (uint64_t i = 0; i < kFillBlockWords; i++) {
      const uint64_t now = state_.word(index * kFillBlockWords + i);
      taken_ += static_cast<uint64_t>(std::popcount(now & ~image[i]));
      image[i] = now;
    }
  }
}

void FillHome::write_next(FillMapWrite& write) {
  if (save_result_ < 0 || next_write_ == writing_.size()) return;
  const uint64_t index = 1 + writing_[next_write_++];
  writes_out_++;
  write.operation = {.kind = Operation::Kind::write,
                     .offset = index * kFillBlockBytes,
                     .length = kFillBlockBytes,
                     .memory = block(index)};
  submit(write.operation, write, *map_);
}

void FillHome::block_written(FillMapWrite& write) {
  writes_out_--;
  if (write.operation.result < 0) save_result_ = write.operation.result;
  write_next(write);
  if (writes_out_ > 0) return;
  if (save_result_ < 0) return end_save(save_result_);
  do_alone({.kind = Operation::Kind::flush}, *map_, [this](int32_t result) { end_save(result); });
}

void FillHome::end_save(int32_t result) {
  saving_ = false;
  if (result < 0) {
    state_.errors.fetch_add(1, std::memory_order_relaxed);
    for (const uint64_t index : writing_) mark_dirty(index);
    save_later();
  } else {
    state_.unsaved.fetch_sub(std::exchange(taken_, 0), std::memory_order_release);
    if (!dirty_.empty()) save_later();
  }
  writing_.clear();
  Fifo<FillErrand> served = serving_.take();
  while (FillErrand* errand = served.pop()) {
    errand->result = result;
    errand->from->back(*errand);
  }
  const bool is_full = state_.absent.load(std::memory_order_relaxed) == 0 &&
                       state_.unsaved.load(std::memory_order_relaxed) == 0;
  if (result == 0 && is_full && !state_.straight.load(std::memory_order_relaxed))
    finish_filling();
  else
    start_save();
}

void FillHome::mark_dirty(uint64_t index) {
  if (!is_dirty_[index]) dirty_.push_back(index);
  is_dirty_[index] = true;
}

void FillHome::save_later() {
  if (!closing_ && !save_alarm_.is_set())
    context_.alarms.set(save_alarm_, clock_us() + kSaveEveryUs);
}

void FillHome::write_header(FillHeader::State state, std::function<void(int32_t)> then) {
  state_.header.state = state;
  state_.header.checksum = state_.header.computed_checksum();
  std::memcpy(block(0), &state_.header, sizeof state_.header);
  const Operation write{
      .kind = Operation::Kind::write, .length = kFillBlockBytes, .memory = block(0)};
  do_alone(write, *map_, [this, then = std::move(then)](int32_t result) {
    if (result < 0) return then(result);
    do_alone({.kind = Operation::Kind::flush}, *map_, then);
  });
}

// Every bit is on the map's medium: from now on its header says that none need be looked at.
void FillHome::finish_filling() {
  saving_ = true;
  write_header(FillHeader::full, [this](int32_t result) {
    saving_ = false;
    if (result < 0) {
      state_.errors.fetch_add(1, std::memory_order_relaxed);
      save_later();
    } else {
      become_straight();
    }
    start_save();
  });
}

void FillHome::become_straight() {
  state_.straight.store(true, std::memory_order_release);
  state_.failing.store(0, std::memory_order_relaxed);
  if (state_.live) state_.live->discard();
  context_.alarms.cancel(job_alarm_);
  source_leaves_ = true;
  // Not here: a channel may be at work when it finds that it has ended.
  const auto gone = [this] {
    post([this] {
      source_.reset();
      source_leaves_ = false;
      on_full_();
      run();
    });
  };
  if (source_)
    source_->close(gone);
  else
    gone();
}

}  // namespace ringdisk
