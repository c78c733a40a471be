// SPDX-License-Identifier: Apache-2.0
// The job: chunks that the destination has not, in order, several at a time, at its own pace. What
// fails to be read is passed over and tried again when the others are there, ever more slowly.
//
// Where guests wait for both ends a chunk is locked from its being read until it is written, so
// that each step is one ahead. Where they do not, nobody waits for the destination: nothing is
// locked, and what was written to meanwhile is copied again.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/kill_point.h"
#include "channels/mirror_home.h"

namespace ringdisk {
namespace {

using Kind = Operation::Kind;
using Stage = MirrorCopy::Stage;

constexpr uint64_t kBackoffMinUs = 100'000;
constexpr uint64_t kBackoffMaxUs = 30'000'000;
constexpr uint64_t kSecondUs = 1'000'000;
constexpr uint64_t kFenceUs = 100'000;
constexpr uint64_t kFlushBytes = 64u << 20;

bool is_zero(const std::byte* bytes, size_t count) {
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, count - 1) == 0;
}

}  // namespace

void MirrorCopy::granted() { home->ready_copies_.push(*this); }

void MirrorHome::destination_is_here(std::unique_ptr<TargetChannel> destination) {
  enter([this, &destination] {
    untouched_ = false;
    destination_ = std::move(destination);
    state_.has_destination = true;
  });
}

void MirrorHome::settings_changed() {
  enter([this] {
    job_at_us_ = 0;
    context_.alarms.cancel(job_alarm_);  // it may be set for long
    const bool sync = state_.wants_sync.load(std::memory_order_relaxed);
    state_.sync.store(sync, std::memory_order_release);
    if (!sync) state_.ready.store(false, std::memory_order_release);
  });
}

bool MirrorHome::may_copy() {
  if (!destination_ || closing_ || looking_ || state_.over.load(std::memory_order_relaxed))
    return false;
  if (state_.paused.load(std::memory_order_relaxed)) return false;
  const uint64_t now = clock_us();
  if (source_is_fenced_()) {
    wait_until(now + kFenceUs);
    return false;
  }
  if (job_at_us_ > now) wait_until(job_at_us_);
  return job_at_us_ <= now;
}

void MirrorHome::wait_until(uint64_t at_us) {
  if (!job_alarm_.is_set()) context_.alarms.set(job_alarm_, at_us);
}

// Requests of guests that wait for memory come first.
void MirrorHome::step() {
  if (state_.behind.load(std::memory_order_relaxed) == 0) {
    if (destination_) end_sweep();
    return become_ready();
  }
  while (!idle_copies_.empty() && hungry_.empty() && may_copy()) {
    uint64_t chunk = 0;
    if (!next_chunk(chunk)) break;
    if (sweeping_ && !in_window(chunk)) return look(chunk);
    cursor_ = chunk + 1;
    if (is_hole(chunk) && is_blank(chunk) && !is_active(chunk)) {
      validate(chunk, chunk + 1);
      state_.map.clear_chunks(chunk, chunk + 1);
      note_progress(state_.chunk_bytes());
      continue;
    }
    if (!begin_copy(chunk)) return;
  }
  if (state_.behind.load(std::memory_order_relaxed) == 0) become_ready();
}

void MirrorHome::end_sweep() {
  if (!std::exchange(sweeping_, false)) return;
  state_.swept = true;
  on_change_();
}

// Bounded: all that are passed over are in somebody's hands.
bool MirrorHome::next_chunk(uint64_t& chunk) {
  const bool sync = state_.sync.load(std::memory_order_relaxed);
  bool wrapped = false;
  uint64_t from = cursor_;
  for (uint32_t tries = 0; tries < 64 * (kCopiesMax + kErrandsMax); tries++) {
    chunk = valid_.next_clear(from);
    if (chunk == valid_.count()) {
      if (wrapped) return false;
      end_sweep();
      wrapped = true;
      from = 0;
      continue;
    }
    if (!is_copied(chunk) && (sync || !is_active(chunk))) return true;
    from = chunk + 1;
  }
  return false;
}

bool MirrorHome::is_copied(uint64_t chunk) const {
  return std::ranges::any_of(copies_, [chunk](const MirrorCopy& copy) {
    return copy.stage != Stage::idle && copy.first_chunk <= chunk && chunk < copy.end_chunk;
  });
}

bool MirrorHome::begin_copy(uint64_t chunk) {
  const uint64_t zeroes = no_zeroes_ ? 0 : zero_run(chunk);
  BounceShare::Block block{};
  if (zeroes == 0) {
    block = context_.memory.allocate(state_.chunk_bytes());
    if (block.memory.empty()) return false;  // whoever has it brings us back
  }
  MirrorCopy& copy = *idle_copies_.pop();
  copies_out_++;
  copy.block = block;
  copy.zeroes = zeroes > 0;
  copy.first_chunk = chunk;
  copy.end_chunk = chunk + std::max<uint64_t>(zeroes, 1);
  copy.locked = copy.spoiled = false;
  copy.stage = Stage::waiting;
  cursor_ = copy.end_chunk;
  const uint64_t bytes = end_of(copy.end_chunk - 1) - chunk * state_.chunk_bytes();
  const uint64_t rate = state_.rate.load(std::memory_order_relaxed);
  // Zeroes bring nothing but themselves.
  if (rate > 0 && zeroes == 0)
    job_at_us_ = std::max(job_at_us_, clock_us()) + bytes * kSecondUs / rate;
  if (!state_.sync.load(std::memory_order_relaxed)) {
    begin(copy);
    return true;
  }
  copy.locked = true;
  copy.first = chunk * state_.chunk_bytes() / kSectorBytes;
  copy.end = copy.first + bytes / kSectorBytes;
  if (locks_.acquire(copy)) begin(copy);
  return true;
}

// Locked, where it is to be.
void MirrorHome::begin(MirrorCopy& copy) {
  const bool is_over = closing_ || state_.over.load(std::memory_order_relaxed);
  // Somebody may have written all of it while it waited.
  const bool is_valid = copy.locked && !copy.zeroes && valid_.has(copy.first_chunk);
  const bool has_room = copy.zeroes || !copy.block.memory.empty();  // else it comes again
  if (is_over || is_valid || copy.spoiled || !has_room) return end_copy(copy);
  const uint64_t offset = copy.first_chunk * state_.chunk_bytes();
  Operation& operation = copy.operation = {};
  operation.offset = offset;
  operation.length = end_of(copy.end_chunk - 1) - offset;
  if (copy.zeroes) {
    operation.kind = Kind::discard;
    operation.zeroes = Zeroes::may_free;
    copy.stage = Stage::writing;
    return submit_there(operation, copy, copy.since_us);
  }
  operation.kind = Kind::read;
  operation.memory = copy.block.memory.data();
  operation.registered = copy.block.registered;
  copy.stage = Stage::reading;
  submit(operation, copy, *source_);
}

void MirrorHome::go_on(MirrorCopy& copy) {
  if (copy.stage == Stage::reading) return copy_was_read(copy);
  there_--;
  copy.since_us = 0;
  copy_is_there(copy);
}

void MirrorHome::copy_was_read(MirrorCopy& copy) {
  Operation& operation = copy.operation;
  if (operation.result < 0) {
    state_.source_errors.fetch_add(1, std::memory_order_relaxed);
    backoff_us_ = std::clamp(backoff_us_ * 2, kBackoffMinUs, kBackoffMaxUs);
    job_at_us_ = std::max(job_at_us_, clock_us() + backoff_us_);
    return end_copy(copy);
  }
  backoff_us_ = 0;
  if (closing_ || copy.spoiled || state_.over.load(std::memory_order_relaxed))
    return end_copy(copy);
  const bool zeroes = !no_zeroes_ && is_zero(operation.memory, operation.length);
  operation.kind = zeroes ? Kind::discard : Kind::write;
  operation.zeroes = zeroes ? Zeroes::may_free : Zeroes::no;
  copy.stage = Stage::writing;
  submit_there(operation, copy, copy.since_us);
}

void MirrorHome::copy_is_there(MirrorCopy& copy) {
  Operation& operation = copy.operation;
  const bool is_over = state_.over.load(std::memory_order_relaxed);
  if (operation.result == -EOPNOTSUPP && operation.kind == Kind::discard && !is_over) {
    no_zeroes_ = true;
    if (copy.zeroes) return end_copy(copy);  // comes again, as data
    operation.kind = Kind::write;
    return submit_there(operation, copy, copy.since_us);
  }
  if (operation.result < 0) give_up(-operation.result);
  if (!copy.spoiled && !state_.over.load(std::memory_order_relaxed)) {
    RD_KILL_POINT("mirror:copied");
    validate(copy.first_chunk, copy.end_chunk);
    state_.map.clear_chunks(copy.first_chunk, copy.end_chunk);
    state_.copied_bytes.fetch_add(operation.length, std::memory_order_relaxed);
    note_progress(operation.length);
    flush_now_and_then(operation.length);
  }
  end_copy(copy);
}

// So that no flush that a guest waits for has a whole disk to bring to the medium.
void MirrorHome::flush_now_and_then(uint64_t bytes) {
  unflushed_bytes_ += bytes;
  if (unflushed_bytes_ < kFlushBytes || own_.then) return;
  unflushed_bytes_ = 0;
  do_alone({.kind = Kind::flush}, *destination_, [this](int32_t result) {
    if (result < 0) give_up(-result);
  });
}

void MirrorHome::end_copy(MirrorCopy& copy) {
  copy.stage = Stage::idle;
  copies_out_--;
  if (!copy.block.memory.empty()) context_.memory.release(std::exchange(copy.block, {}));
  if (std::exchange(copy.locked, false)) locks_.release(copy);
  idle_copies_.push(copy);
  wake_hungry();
}

// For an estimate: about the last seconds.
void MirrorHome::note_progress(uint64_t bytes) {
  const uint64_t now = clock_us();
  progress_bytes_ += bytes;
  if (progress_since_us_ == 0) progress_since_us_ = now;
  const uint64_t took = now - progress_since_us_;
  if (took < kSecondUs) return;
  const uint64_t latest = progress_bytes_ * kSecondUs / took;
  const uint64_t before = state_.speed.load(std::memory_order_relaxed);
  state_.speed.store(before == 0 ? latest : (before + latest) / 2, std::memory_order_relaxed);
  progress_bytes_ = 0;
  progress_since_us_ = now;
}

// All is there. What guests have flushed since was flushed at both ends; what they had flushed
// before is durable at both when the destination has been flushed now.
void MirrorHome::become_ready() {
  if (!destination_ || closing_ || own_.then || !state_.sync.load(std::memory_order_relaxed))
    return;
  if (state_.ready.load(std::memory_order_relaxed) || state_.over.load(std::memory_order_relaxed))
    return;
  if (source_is_fenced_()) return wait_until(clock_us() + kFenceUs);
  const uint64_t changes = changes_;
  const auto flushed = [this, changes](int32_t result) {
    if (result < 0) return give_up(-result);
    const bool is_sync = state_.sync.load(std::memory_order_relaxed);
    if (changes != changes_ || !is_sync || state_.over.load(std::memory_order_relaxed)) return;
    state_.ready.store(true, std::memory_order_release);
    on_change_();
  };
  if (RD_PLANTED("mirror-ready")) return flushed(0);
  do_alone({.kind = Kind::flush}, *destination_, flushed);
}

}  // namespace ringdisk
