// SPDX-License-Identifier: Apache-2.0
#include "worker/executor.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>
#include <utility>

namespace ringdisk {
namespace {

constexpr size_t kStackBytes = 64u << 10;
constexpr uint64_t kLookOutUs = 30;
constexpr int kLuckMax = 8;
constexpr uint32_t kTryAgainAfter = 64;
constexpr uint32_t kThreadsKept = 2;  // one at work, and one that listens meanwhile
constexpr time_t kSpareSeconds = 2;   // how long a thread that is not the only one looks for work

uint64_t now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, timeout,
                   nullptr, 0);
}

bool is_discard(LaneCall call) {
  return call == LaneCall::punch_hole || call == LaneCall::discard ||
         call == LaneCall::secure_discard || call == LaneCall::zero ||
         call == LaneCall::zero_keep || call == LaneCall::zero_fast;
}

// What a lane asks for must lie in its window and be something there is.
bool is_sound(const LaneSubmission& submission) {
  if (static_cast<uint32_t>(submission.call) >= kLaneCalls) return false;
  if (!uses_window(submission.call)) return true;
  const uint64_t bytes = window_bytes(submission.call, submission.length);
  return bytes <= kLaneCallBytesMax && submission.window < kLaneWindowBytes &&
         bytes <= kLaneWindowBytes - submission.window;
}

}  // namespace

Executor::Lane::~Lane() {
  if (header) ::munmap(header, kLaneBytes);
}

void Executor::add_lane(uint32_t id, const Fd& memory, Fd bell) {
  auto lane = std::make_shared<Lane>();
  void* mapped = ::mmap(nullptr, kLaneBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a lane");
  lane->id = id;
  lane->header = static_cast<LaneHeader*>(mapped);
  lane->bell = std::move(bell);
  const std::lock_guard lock(mutex_);
  lanes_.push_back(std::move(lane));
  if (threads_ > 0) return wake_another();
  if (!start_thread())
    throw std::system_error(EAGAIN, std::generic_category(), "cannot start a thread");
}

void Executor::remove_lane(uint32_t id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(lanes_, [id](const auto& lane) { return lane->id == id; });
}

// With the mutex. Where no more can be had, those that are there do it.
bool Executor::start_thread() {
  if (threads_ == kWorkerThreadsMax) return false;
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kStackBytes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread{};
  const bool started = ::pthread_create(&thread, &attributes, &Executor::entry, this) == 0;
  ::pthread_attr_destroy(&attributes);
  if (started) threads_++;
  return started;
}

void* Executor::entry(void* self) {
  auto& executor = *static_cast<Executor*>(self);
  uint32_t place = 0;
  {
    const std::lock_guard lock(executor.mutex_);
    while (executor.used_[place]) place++;
    executor.used_[place] = true;
  }
  executor.run(place);
  return nullptr;
}

void Executor::run(uint32_t thread) {
  for (;;) {
    const uint32_t heard = page_.bell.load(std::memory_order_acquire);
    Batch batch;
    if (take(batch) || look_out(batch)) {
      carry_out(batch, thread);
      continue;
    }
    bool is_spare = false;
    {
      const std::lock_guard lock(mutex_);
      is_spare = threads_ > kThreadsKept;
    }
    if (wait_for_bell(heard, is_spare)) continue;
    const std::lock_guard lock(mutex_);
    // Who rang just now counted on this one. And all the others may be in calls that hang: the last
    // who listens stays.
    const bool is_last = page_.idle.load(std::memory_order_seq_cst) == 0;
    if (threads_ <= kThreadsKept || is_last || anything_waits()) continue;
    threads_--;
    used_[thread] = false;
    return;
  }
}

// The lanes in turn, so that no queue waits for another's. What else waits is another thread's.
bool Executor::take(Batch& batch) {
  const bool are_short = usual_us_.load(std::memory_order_relaxed) < kShortUs * 8;
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < lanes_.size(); i++) {
    const std::shared_ptr<Lane>& lane = lanes_[(next_lane_ + i) % lanes_.size()];
    const uint32_t waiting = lane->header->submitted.load(std::memory_order_acquire) - lane->taken;
    if (waiting == 0 || waiting > kLaneEntries) continue;
    batch.lane = lane;
    batch.count = 0;
    const uint32_t most = are_short ? std::min(waiting, Batch::kCallsMax) : 1;
    while (batch.count < most) {
      const LaneSubmission next = lane->header->submissions[lane->taken % kLaneEntries];
      // What may take long is taken alone.
      if (batch.count > 0 && !moves_data(next.call)) break;
      batch.submissions[batch.count++] = next;
      lane->taken++;
      if (!moves_data(next.call)) break;
    }
    next_lane_ = (next_lane_ + i + 1) % lanes_.size();
    // This call may hang: somebody must be there for what comes next.
    if (page_.idle.load(std::memory_order_seq_cst) == 0)
      start_thread();
    else if (anything_waits())
      wake_another();
    return true;
  }
  return false;
}

bool Executor::anything_waits() const {
  return std::ranges::any_of(lanes_, [](const auto& lane) {
    return lane->header->submitted.load(std::memory_order_acquire) != lane->taken;
  });
}

void Executor::wake_another() {
  if (page_.idle.load(std::memory_order_seq_cst) == 0) {
    start_thread();
    return;
  }
  page_.bell.fetch_add(1, std::memory_order_seq_cst);
  futex(page_.bell, FUTEX_WAKE, 1, nullptr);
}

// A guest that asks for one thing at a time asks again as soon as it is answered: whoever looks out
// for that spares it a wake-up. One thread does, and only as long as it mostly pays; now and then
// it is tried anew.
bool Executor::look_out(Batch& batch) {
  if (!may_look_out_ || looking_out_.exchange(true, std::memory_order_acquire)) return false;
  bool found = false;
  if (luck_ > 0 || ++unlucky_ % kTryAgainAfter == 0) {
    const uint64_t until = now_us() + kLookOutUs;
    do {
      found = take(batch);
      if (!found) __builtin_ia32_pause();
    } while (!found && now_us() < until);
    luck_ = found ? std::min(luck_ + 2, kLuckMax) : std::max(luck_ - 1, 0);
  }
  looking_out_.store(false, std::memory_order_release);
  return found;
}

// False: nobody rang for long. `heard` was read before the lanes were looked at.
bool Executor::wait_for_bell(uint32_t heard, bool is_spare) {
  page_.idle.fetch_add(1, std::memory_order_seq_cst);
  bool rung = true;
  bool waits = false;
  {
    const std::lock_guard lock(mutex_);
    waits = anything_waits();  // it came before we counted as idle: nobody rang for it
  }
  if (!waits) {
    const timespec patience{kSpareSeconds, 0};
    const long result = futex(page_.bell, FUTEX_WAIT, heard, is_spare ? &patience : nullptr);
    rung = result == 0 || errno != ETIMEDOUT;
  }
  page_.idle.fetch_sub(1, std::memory_order_seq_cst);
  return rung;
}

void Executor::carry_out(Batch& batch, uint32_t thread) {
  auto* window = reinterpret_cast<std::byte*>(batch.lane->header) + kLaneHeaderBytes;
  for (uint32_t i = 0; i < batch.count; i++) {
    const LaneSubmission& one = batch.submissions[i];
    if (one.call == LaneCall::flush) return flush({batch.lane, one}, thread);
    if (is_discard(one.call) &&
        batch.lane->header->no_discards.load(std::memory_order_acquire) != 0)
      batch.results[i] = -ECANCELED;
    else
      batch.results[i] = is_sound(one) ? run_call(one, window + one.window, thread) : -EINVAL;
  }
  complete(batch);
}

// One flush of the device at a time. It serves all that were asked for before it began; those that
// come while it runs share the next.
void Executor::flush(const Call& call, uint32_t thread) {
  std::unique_lock lock(mutex_);
  flushes_.push_back(call);
  if (flushing_) return;
  flushing_ = true;
  while (!flushes_.empty()) {
    const std::vector<Call> together = std::exchange(flushes_, {});
    lock.unlock();
    const int32_t result = run_call(together.front().submission, nullptr, thread);
    page_.device_flushes.fetch_add(1, std::memory_order_relaxed);
    for (const Call& one : together) complete({one.lane, 1, {one.submission}, {result}});
    lock.lock();
  }
  flushing_ = false;
}

int32_t Executor::run_call(const LaneSubmission& submission, std::byte* memory, uint32_t thread) {
  WorkerPage::Doing& doing = page_.doing[thread];
  const uint64_t since = now_us();
  doing.since_us.store(since, std::memory_order_relaxed);
  doing.call.store(static_cast<uint32_t>(submission.call) + 1, std::memory_order_release);
  const int32_t result = medium_.carry_out(submission, memory);
  doing.call.store(0, std::memory_order_release);
  if (moves_data(submission.call)) note_duration(now_us() - since);
  return result;
}

// A moving average; two threads that write it at once cost it one of the two.
void Executor::note_duration(uint64_t us) {
  const uint32_t usual = usual_us_.load(std::memory_order_relaxed);
  const auto now = static_cast<uint32_t>(std::min<uint64_t>(us, 1'000'000));
  usual_us_.store(usual - usual / 8 + now, std::memory_order_relaxed);
}

void Executor::complete(const Batch& batch) {
  LaneHeader& header = *batch.lane->header;
  {
    const std::lock_guard lock(mutex_);
    uint32_t index = header.completed.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < batch.count; i++)
      header.completions[index++ % kLaneEntries] = {batch.submissions[i].tag, batch.results[i]};
    header.completed.store(index, std::memory_order_seq_cst);
    page_.answered.fetch_add(batch.count, std::memory_order_relaxed);
  }
  if (header.armed.exchange(0, std::memory_order_seq_cst) != 0)
    ::eventfd_write(batch.lane->bell.get(), 1);
}

}  // namespace ringdisk
