// SPDX-License-Identifier: Apache-2.0
#include "channels/fill_home.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "channels/errands.h"

namespace ringdisk {

using Kind = FillWork::Kind;

FillHome::FillHome(FillState& state, const ChannelContext& context, Setup setup)
    : Home(std::move(setup.post)),
      state_(state),
      context_(context),
      local_(std::move(setup.local)),
      source_(std::move(setup.source)),
      map_(std::move(setup.map)),
      local_alignment_(setup.local_alignment),
      live_path_(std::move(setup.live_path)),
      rate_(setup.rate),
      on_full_(std::move(setup.on_full)) {
  save_alarm_.home = job_alarm_.home = this;
  for (FillFetch& fetch : fetches_) free_fetches_.push(fetch);
  for (FillErrand& errand : job_errands_) {
    errand.kind = Kind::background;
    errand.home = this;
    idle_job_errands_.push(errand);
  }
}

FillHome::~FillHome() {
  context_.alarms.cancel(save_alarm_);
  context_.alarms.cancel(job_alarm_);
  if (image_) ::munmap(image_, image_bytes_);
}

void FillErrand::granted() { home->granted(*this); }

void FillHome::begin() {
  enter([this] {
    begun_ = true;
    Fifo<FillErrand> waiting = waiting_.take();
    while (FillErrand* errand = waiting.pop()) take(*errand);
    if (!dirty_.empty() || state_.absent.load(std::memory_order_relaxed) == 0) save_is_due();
    step();
  });
}

void FillHome::take(FillErrand& errand) {
  enter([this, &errand] {
    errand.home = this;
    if (!begun_ || (errand.kind == Kind::use && errands_ == kErrandsMax))
      waiting_.push(errand);
    else
      admit(errand);
  });
}

void FillHome::admit(FillErrand& errand) {
  if (errand.kind == Kind::save) {
    saves_.push(errand);
    return start_save();
  }
  if (errand.kind == Kind::use) errands_++;
  errand.at = errand.first;
  errand.fetching = 0;
  errand.hungry = false;
  errand.result = 0;
  if (locks_.acquire(errand)) ready_.push(errand);
}

void FillHome::granted(FillErrand& errand) { ready_.push(errand); }

bool FillHome::run_one() {
  FillErrand* errand = ready_.pop();
  if (errand) feed(*errand);
  return errand != nullptr;
}

void FillHome::handle(Operation& operation) {
  auto& work = *static_cast<FillWork*>(operation.owner);
  switch (work.kind) {
    case Kind::fetch:
      return fetched(static_cast<FillFetch&>(work));
    case Kind::use:
    case Kind::background:
      return carried_out(static_cast<FillErrand&>(work));
    case Kind::map_write:
      return block_written(static_cast<FillMapWrite&>(work));
    case Kind::own:
      return std::exchange(own_.then, nullptr)(operation.result);
    case Kind::save:
      break;
  }
  RD_ASSERT(!"a save is done by operations of the home's own");
}

// Its chunks are locked: what is not here nobody else fetches or writes.
void FillHome::feed(FillErrand& errand) {
  errand.hungry = false;
  while (errand.result == 0 && errand.at < errand.end) {
    const bool is_whole = errand.whole_first <= errand.at && errand.at < errand.whole_end;
    if (is_whole) {
      errand.at = errand.whole_end;
    } else if (state_.is_here(errand.at)) {
      errand.at++;
    } else if (!source_ && source_error_ != 0) {
      errand.result = -source_error_;
      state_.errors.fetch_add(1, std::memory_order_relaxed);
    } else if (!source_ || !begin_fetch(errand)) {
      errand.hungry = true;
      return hungry_.push(errand);
    }
  }
  if (errand.fetching == 0) carry_out(errand);
}

void FillHome::wake_hungry() {
  Fifo<FillErrand> hungry = hungry_.take();
  while (FillErrand* errand = hungry.pop()) ready_.push(*errand);
}

void FillHome::source_is_here(std::unique_ptr<TargetChannel> source) {
  enter([this, &source] {
    source_ = std::move(source);
    source_error_ = 0;
    wake_hungry();
    job_is_due();
  });
}

void FillHome::source_is_away(int error) {
  enter([this, error] {
    source_error_ = error;
    wake_hungry();
  });
}

// False: there is no room.
bool FillHome::begin_fetch(FillErrand& errand) {
  if (free_fetches_.empty()) return false;
  const BounceShare::Block memory = context_.memory.allocate(state_.chunk_bytes());
  if (memory.memory.empty()) {
    RD_ASSERT(fetching_ > 0);  // else there is always the reserve
    return false;
  }
  FillFetch& fetch = *free_fetches_.pop();
  fetch.block = memory;
  fetch.errand = &errand;
  fetch.chunk = errand.at++;
  errand.fetching++;
  fetching_++;
  Operation& operation = fetch.operation = {};
  operation.kind = Operation::Kind::read;
  operation.offset = fetch.chunk * state_.chunk_bytes();
  operation.length = std::min(state_.chunk_bytes(), state_.header.source_bytes - operation.offset);
  operation.memory = fetch.block.memory.data();
  operation.registered = fetch.block.registered;
  submit(operation, fetch, *source_);
  return true;
}

void FillHome::fetched(FillFetch& fetch) {
  Operation& operation = fetch.operation;
  if (operation.result < 0) return end_fetch(fetch, operation.result);
  if (operation.kind == Operation::Kind::read) {
    // The disk's blocks may be larger than the source's; behind the source is nothing.
    const uint64_t read = operation.length;
    operation.length = (read + local_alignment_ - 1) / local_alignment_ * local_alignment_;
    std::memset(operation.memory + read, 0, operation.length - read);
    operation.kind = Operation::Kind::write;
    return submit(operation, fetch, *local_);
  }
  state_.fetched_bytes.fetch_add(operation.length, std::memory_order_relaxed);
  set_here(fetch.chunk, fetch.chunk + 1);
  end_fetch(fetch, 0);
}

void FillHome::end_fetch(FillFetch& fetch, int32_t result) {
  FillErrand& errand = *fetch.errand;
  context_.memory.release(fetch.block);
  free_fetches_.push(fetch);
  fetching_--;
  errand.fetching--;
  if (result < 0) {
    state_.errors.fetch_add(1, std::memory_order_relaxed);
    errand.result = result;
  }
  const bool is_last = errand.at == errand.end || errand.result < 0;
  if (errand.fetching == 0 && !errand.hungry && is_last) carry_out(errand);
  // All: the first may have failed meanwhile, and then has no use for the room.
  wake_hungry();
}

void FillHome::carry_out(FillErrand& errand) {
  if (errand.result < 0 || errand.kind == Kind::background) return conclude(errand);
  Operation& operation = errand.operation;
  operation.registered = false;  // with another reactor's io_uring, if at all
  operation.cancelled = false;
  if (operation.kind == Operation::Kind::discard) {
    if (errand.from->discards_are_cancelled()) {
      errand.result = -ECANCELED;
      return conclude(errand);
    }
    // What lies there may be a stranger's: the chunks that become this disk's by it are zeroed.
    if (!operation.secure && operation.zeroes == Zeroes::no) operation.zeroes = Zeroes::fast;
  }
  submit(operation, errand, *local_);
}

void FillHome::carried_out(FillErrand& errand) {
  const Operation& asked = *errand.asked;
  int32_t result = errand.operation.result;
  const bool is_hint =
      asked.kind == Operation::Kind::discard && !asked.secure && asked.zeroes == Zeroes::no;
  if (result == 0 && errand.whole_first < errand.whole_end)
    set_here(errand.whole_first, errand.whole_end);
  if (result == -EOPNOTSUPP && is_hint) result = 0;  // it is left as it was
  errand.result = result;
  conclude(errand);
}

void FillHome::conclude(FillErrand& errand) {
  locks_.release(errand);
  if (errand.kind == Kind::background) return job_errand_done(errand);
  errands_--;
  errand.from->back(errand);
  if (FillErrand* next = waiting_.pop()) admit(*next);
}

// The only one who sets bits; `unsaved` is counted first, see FillState.
void FillHome::set_here(uint64_t first, uint64_t end) {
  FillLive::Word* words = state_.live->words();
  for (uint64_t at = first; at < end;) {
    const uint64_t next = std::min((at / 64 + 1) * 64, end);
    const uint64_t bits = (~uint64_t{0} >> (64 - (next - at))) << (at % 64);
    const uint64_t added = bits & ~words[at / 64].load(std::memory_order_relaxed);
    if (added != 0) {
      const auto count = static_cast<uint64_t>(std::popcount(added));
      state_.unsaved.fetch_add(count, std::memory_order_relaxed);
      words[at / 64].fetch_or(added, std::memory_order_release);
      state_.absent.fetch_sub(count, std::memory_order_relaxed);
      mark_dirty(at / kFillBlockChunks);
    }
    at = next;
  }
  if (state_.absent.load(std::memory_order_relaxed) == 0) return save_is_due();
  save_later();
}

void FillHome::close(std::function<void()> done) {
  RD_ASSERT(errands_ == 0 && waiting_.empty());
  enter([this, &done] {
    closing_ = true;
    closed_ = std::move(done);
    context_.alarms.cancel(job_alarm_);
    // What waits for a source to come waits in vain.
    if (!source_) source_error_ = ECANCELED;
    wake_hungry();
    save_due_ = begun_ && state_.unsaved.load(std::memory_order_relaxed) > 0;
    start_save();
  });
}

void FillHome::tell_if_closed() {
  const bool is_busy = job_errands_out_ > 0 || saving_ || save_due_ || own_.then || source_leaves_;
  if (!closing_ || !closed_ || is_busy) return;
  context_.alarms.cancel(save_alarm_);
  // What is saved needs no second map; what is not is found in it by whoever comes next.
  const bool is_saved = begun_ && state_.unsaved.load(std::memory_order_relaxed) == 0;
  if (is_saved && state_.live) state_.live->discard();
  auto channels = std::make_shared<int>(source_ ? 3 : 2);
  const auto one_is_gone = [channels, done = std::exchange(closed_, nullptr)] {
    if (--*channels == 0) done();
  };
  local_->close(one_is_gone);
  map_->close(one_is_gone);
  if (source_) source_->close(one_is_gone);
}

}  // namespace ringdisk
