// SPDX-License-Identifier: Apache-2.0
#include "channels/mirror_home.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "base/kill_point.h"
#include "channels/errands.h"

namespace ringdisk {

using Kind = Operation::Kind;

MirrorHome::MirrorHome(MirrorState& state, const ChannelContext& context, Setup setup)
    : Home(std::move(setup.post)),
      state_(state),
      context_(context),
      source_(std::move(setup.source)),
      source_is_fenced_(std::move(setup.source_is_fenced)),
      on_change_(std::move(setup.on_change)),
      valid_(state.chunks()) {
  job_alarm_.home = hang_alarm_.home = this;
  for (MirrorWrite& write : writes_) free_writes_.push(write);
  for (MirrorCopy& copy : copies_) {
    copy.home = this;
    idle_copies_.push(copy);
  }
  const uint64_t chunk = state_.chunk_bytes();
  for (uint64_t i = 0; i < state_.chunks(); i++)
    if (!state_.map.is_set(std::min(i * chunk, state_.map.covered() - 1))) valid_.set(i, i + 1);
  uint64_t behind = 0;
  for (uint64_t i = valid_.next_clear(0); i < valid_.count(); i = valid_.next_clear(i + 1))
    behind++;
  state_.behind = behind;
  state_.sync = state_.wants_sync.load();
}

MirrorHome::~MirrorHome() {
  context_.alarms.cancel(job_alarm_);
  context_.alarms.cancel(hang_alarm_);
}

void MirrorErrand::granted() { home->ready_.push(*this); }

void MirrorHome::submit_there(Operation& operation, MirrorWork& owner, uint64_t& since_us) {
  since_us = clock_us();
  there_++;
  if (!hang_alarm_.is_set()) context_.alarms.set(hang_alarm_, since_us + kSyncPatienceUs / 5);
  submit(operation, owner, *destination_);
}

// The job's next step comes when nothing of the queues' is left.
bool MirrorHome::run_one() {
  if (MirrorErrand* errand = ready_.pop()) {
    begin(*errand);
    return true;
  }
  if (MirrorCopy* copy = ready_copies_.pop()) {
    begin(*copy);
    return true;
  }
  step();
  return !ready_.empty() || !ready_copies_.empty();
}

void MirrorHome::handle(Operation& operation) {
  auto& work = *static_cast<MirrorWork*>(operation.owner);
  switch (work.kind) {
    case MirrorWork::Kind::source:
      return source_has(static_cast<MirrorErrand&>(work));
    case MirrorWork::Kind::destination:
      return destination_has(static_cast<MirrorWrite&>(work));
    case MirrorWork::Kind::copy:
      return go_on(static_cast<MirrorCopy&>(work));
    case MirrorWork::Kind::own:
      if (std::exchange(own_.since_us, 0) != 0) there_--;
      return std::exchange(own_.then, nullptr)(operation.result);
  }
}

void MirrorHome::take(MirrorErrand& errand) {
  enter([this, &errand] {
    untouched_ = false;
    errand.home = this;
    if (errands_ == kErrandsMax)
      waiting_.push(errand);
    else
      admit(errand);
  });
}

void MirrorHome::admit(MirrorErrand& errand) {
  errands_++;
  errand.both = errand.spoils = false;
  errand.parts = 0;
  errand.result = 0;
  Operation& operation = errand.operation;
  operation.registered = false;  // with another reactor's io_uring, if at all
  operation.cancelled = false;
  const uint64_t chunk = state_.chunk_bytes();
  const uint64_t end = operation.offset + operation.length;
  errand.first = operation.offset / kSectorBytes;
  errand.end = end / kSectorBytes;
  errand.first_chunk = errand.whole_first = operation.offset / chunk;
  if (operation.offset % chunk != 0) errand.whole_first++;
  errand.end_chunk = (end + chunk - 1) / chunk;
  // Of the last one as much as the disk has.
  errand.whole_end = end == state_.map.covered() ? errand.end_chunk : end / chunk;
  errand.whole_end = std::max(errand.whole_end, errand.whole_first);
  if (operation.kind == Kind::flush) return begin_flush(errand);
  if (end > state_.map.covered()) give_up(EFBIG);
  if (locks_.acquire(errand)) ready_.push(errand);
}

// Its sectors are locked.
void MirrorHome::begin(MirrorErrand& errand) {
  Operation& operation = errand.operation;
  const bool is_discard = operation.kind == Kind::discard;
  active_[active_count_++] = &errand;
  errand.parts = 1;
  if (is_discard && errand.from->discards_are_cancelled()) {
    errand.result = -ECANCELED;
    return part_is_over(errand);
  }
  MirrorWrite* write = nullptr;
  errand.both = goes_to_both(errand);
  if (errand.both && !is_discard) write = prepare_write(errand);
  if (errand.both && !is_discard && !write && take_memory_back()) write = prepare_write(errand);
  if (errand.both && !is_discard && !write) {
    active_count_--;
    return hungry_.push(errand);
  }
  if (!state_.over.load(std::memory_order_relaxed)) {
    touch(errand);
    if (!RD_PLANTED("mirror-late")) state_.map.set(operation.offset, operation.length);
    RD_KILL_POINT("mirror:marked");
    if (!errand.both) invalidate(errand.first_chunk, errand.end_chunk);
  }
  if (write) {
    errand.parts++;
    submit_there(write->operation, *write, write->since_us);
  }
  // What lies there afterwards is to be the same at both ends.
  if (errand.both && is_discard && operation.zeroes == Zeroes::no) operation.zeroes = Zeroes::fast;
  submit(operation, errand, *source_);
}

bool MirrorHome::goes_to_both(const MirrorErrand& errand) const {
  if (!destination_ || state_.over.load(std::memory_order_relaxed)) return false;
  if (!state_.sync.load(std::memory_order_relaxed)) return false;
  const Operation& operation = errand.operation;
  if (operation.kind == Kind::discard && (operation.secure || operation.length > kBothDiscardMax))
    return false;
  if (copies_unlocked(errand.first_chunk, errand.end_chunk)) return false;
  return errand.whole_first < errand.whole_end || valid_.any(errand.first_chunk, errand.end_chunk);
}

void MirrorHome::wake_hungry() {
  while (MirrorErrand* hungry = hungry_.pop()) ready_.push(*hungry);
}

// Of the job's steps that wait for their turn: it may be this one's end that they wait for. False:
// they have none.
bool MirrorHome::take_memory_back() {
  bool any = false;
  for (MirrorCopy& copy : copies_) {
    if (copy.stage != MirrorCopy::Stage::waiting || copy.block.memory.empty()) continue;
    context_.memory.release(std::exchange(copy.block, {}));
    any = true;
  }
  return any;
}

// Null: there is no memory. With all of it given away there is always the reserve.
MirrorWrite* MirrorHome::prepare_write(MirrorErrand& errand) {
  const Operation& operation = errand.operation;
  const BounceShare::Block block = context_.memory.allocate(operation.length);
  if (block.memory.empty()) return nullptr;
  MirrorWrite* write = free_writes_.pop();
  RD_ASSERT(write);
  write->errand = &errand;
  write->block = block;
  write->operation = {.kind = Kind::write,
                      .offset = operation.offset,
                      .length = operation.length,
                      .memory = block.memory.data(),
                      .registered = block.registered};
  std::memcpy(block.memory.data(), operation.memory, operation.length);
  if (RD_PLANTED("mirror-memory")) write->operation.memory = operation.memory;
  return write;
}

// In this order it covers what was answered before: a write is answered when both have it.
void MirrorHome::begin_flush(MirrorErrand& errand) {
  active_[active_count_++] = &errand;
  errand.first = errand.end = errand.first_chunk = errand.end_chunk = 0;
  errand.whole_first = errand.whole_end = 0;
  errand.parts = 1;
  const bool over = state_.over.load(std::memory_order_relaxed);
  if (destination_ && !over && !RD_PLANTED("mirror-flush")) {
    MirrorWrite& write = *free_writes_.pop();
    write.errand = &errand;
    write.operation = {.kind = Kind::flush};
    errand.parts++;
    submit_there(write.operation, write, write.since_us);
  }
  submit(errand.operation, errand, *source_);
}

void MirrorHome::source_has(MirrorErrand& errand) {
  const Operation& asked = *errand.asked;
  const int32_t result = errand.operation.result;
  errand.result = result;
  const bool is_discard = asked.kind == Kind::discard;
  const bool was_raised = errand.both && is_discard && asked.zeroes == Zeroes::no;
  if (result == -EOPNOTSUPP && was_raised) {
    errand.result = 0;  // a hint: both are left as they were
    errand.whole_end = errand.whole_first;
  } else if (result < 0) {
    errand.spoils = true;
  } else if (errand.both && is_discard && !state_.over.load(std::memory_order_relaxed)) {
    discard_there(errand);
  }
  part_is_over(errand);
}

void MirrorHome::discard_there(MirrorErrand& errand) {
  MirrorWrite& write = *free_writes_.pop();
  const Operation& asked = *errand.asked;
  write.errand = &errand;
  write.operation = {.kind = Kind::discard,
                     .zeroes = asked.zeroes == Zeroes::keep ? Zeroes::keep : Zeroes::may_free,
                     .offset = asked.offset,
                     .length = asked.length};
  errand.parts++;
  submit_there(write.operation, write, write.since_us);
}

void MirrorHome::destination_has(MirrorWrite& write) {
  MirrorErrand* errand = std::exchange(write.errand, nullptr);
  const Operation& operation = write.operation;
  const bool is_hint = operation.kind == Kind::discard && operation.result == -EOPNOTSUPP;
  there_--;
  write.since_us = 0;
  if (!write.block.memory.empty()) context_.memory.release(std::exchange(write.block, {}));
  free_writes_.push(write);
  wake_hungry();
  if (is_hint && errand) errand->spoils = true;  // the job writes its zeroes
  if (operation.result < 0 && !is_hint) give_up(-operation.result);
  if (errand) part_is_over(*errand);
}

void MirrorHome::part_is_over(MirrorErrand& errand) {
  if (--errand.parts > 0) return;
  auto* const end = active_.begin() + active_count_;
  *std::find(active_.begin(), end, &errand) = active_[--active_count_];
  if (errand.operation.kind != Kind::flush) {
    locks_.release(errand);
    settle(errand);
  }
  errands_--;
  errand.from->back(errand);
  if (MirrorErrand* next = waiting_.pop()) admit(*next);
}

// Both ends have it, or one of them has not.
void MirrorHome::settle(const MirrorErrand& errand) {
  if (!errand.both || state_.over.load(std::memory_order_relaxed)) return;
  if (errand.spoils) return invalidate(errand.first_chunk, errand.end_chunk);
  if (errand.whole_first < errand.whole_end) validate(errand.whole_first, errand.whole_end);
  for (uint64_t chunk = errand.first_chunk; chunk < errand.end_chunk; chunk++)
    if (valid_.has(chunk) && !is_active(chunk)) state_.map.clear_chunks(chunk, chunk + 1);
}

// What was found out of these chunks is not so any more.
void MirrorHome::touch(const MirrorErrand& errand) {
  touch_window(errand.first_chunk, errand.end_chunk);
  for (MirrorCopy& copy : copies_) {
    const bool meets = copy.first_chunk < errand.end_chunk && errand.first_chunk < copy.end_chunk;
    const bool is_read = copy.stage == MirrorCopy::Stage::waiting && !copy.zeroes;
    if (copy.stage == MirrorCopy::Stage::idle || !meets || is_read) continue;
    if (!RD_PLANTED("mirror-race")) copy.spoiled = true;
  }
}

bool MirrorHome::is_active(uint64_t chunk) const {
  const auto touches = [chunk](const MirrorErrand* errand) {
    return errand->first_chunk <= chunk && chunk < errand->end_chunk;
  };
  return std::any_of(active_.begin(), active_.begin() + active_count_, touches);
}

bool MirrorHome::copies_unlocked(uint64_t first, uint64_t end) const {
  return std::ranges::any_of(copies_, [&](const MirrorCopy& copy) {
    return copy.stage > MirrorCopy::Stage::waiting && !copy.locked && copy.first_chunk < end &&
           first < copy.end_chunk;
  });
}

void MirrorHome::invalidate(uint64_t first, uint64_t end) {
  changes_++;
  const uint64_t count = valid_.clear(first, std::min(end, valid_.count()));
  if (count == 0) return;
  state_.ready.store(false, std::memory_order_release);
  state_.behind.fetch_add(count, std::memory_order_relaxed);
}

void MirrorHome::validate(uint64_t first, uint64_t end) {
  state_.behind.fetch_sub(valid_.set(first, end), std::memory_order_relaxed);
}

uint64_t MirrorHome::end_of(uint64_t chunk) const {
  return std::min((chunk + 1) * state_.chunk_bytes(), state_.map.covered());
}

}  // namespace ringdisk
