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
constexpr time_t kSpareSeconds = 2;  // how long a thread that is not the only one looks for work

uint64_t now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, timeout, nullptr,
                   0);
}

// What a lane asks for must lie in its window and be something there is.
bool is_sound(const LaneSubmission& submission) {
  if (static_cast<uint32_t>(submission.call) >= kLaneCalls) return false;
  const bool moves_data =
      submission.call == LaneCall::read || submission.call == LaneCall::write;
  if (!moves_data) return true;
  return submission.length <= kLaneCallBytesMax && submission.window < kLaneWindowBytes &&
         submission.length <= kLaneWindowBytes - submission.window;
}

}  // namespace

Executor::Lane::~Lane() {
  if (header) ::munmap(header, kLaneBytes);
}

void Executor::add_lane(uint32_t id, const Fd& memory, Fd bell) {
  auto lane = std::make_shared<Lane>();
  void* mapped =
      ::mmap(nullptr, kLaneBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a lane");
  lane->id = id;
  lane->header = static_cast<LaneHeader*>(mapped);
  lane->bell = std::move(bell);
  const std::lock_guard lock(mutex_);
  lanes_.push_back(std::move(lane));
  if (threads_ == 0)
    start_thread();
  else
    wake_another();
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
    Call call;
    if (take(call)) {
      carry_out(call, thread);
      continue;
    }
    bool is_spare = false;
    {
      const std::lock_guard lock(mutex_);
      is_spare = threads_ > 1;
    }
    if (wait_for_bell(heard, is_spare)) continue;
    const std::lock_guard lock(mutex_);
    if (threads_ == 1) continue;
    threads_--;
    used_[thread] = false;
    return;
  }
}

// The lanes in turn, so that no queue waits for another's. What else waits is another thread's.
bool Executor::take(Call& call) {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < lanes_.size(); i++) {
    const std::shared_ptr<Lane>& lane = lanes_[(next_lane_ + i) % lanes_.size()];
    const uint32_t waiting =
        lane->header->submitted.load(std::memory_order_acquire) - lane->taken;
    if (waiting == 0 || waiting > kLaneEntries) continue;
    call.lane = lane;
    call.submission = lane->header->submissions[lane->taken % kLaneEntries];
    lane->taken++;
    next_lane_ = (next_lane_ + i + 1) % lanes_.size();
    if (anything_waits()) wake_another();
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

void Executor::carry_out(const Call& call, uint32_t thread) {
  if (!is_sound(call.submission)) return complete(call, -EINVAL);
  if (call.submission.call == LaneCall::flush) return flush(call, thread);
  auto* window = reinterpret_cast<std::byte*>(call.lane->header) + kLaneHeaderBytes;
  complete(call, run_call(call.submission, window + call.submission.window, thread));
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
    for (const Call& one : together) complete(one, result);
    lock.lock();
  }
  flushing_ = false;
}

int32_t Executor::run_call(const LaneSubmission& submission, std::byte* memory, uint32_t thread) {
  WorkerPage::Doing& doing = page_.doing[thread];
  doing.since_us.store(now_us(), std::memory_order_relaxed);
  doing.call.store(static_cast<uint32_t>(submission.call) + 1, std::memory_order_release);
  const int32_t result = medium_.carry_out(submission, memory);
  doing.call.store(0, std::memory_order_release);
  return result;
}

void Executor::complete(const Call& call, int32_t result) {
  LaneHeader& header = *call.lane->header;
  {
    const std::lock_guard lock(mutex_);
    const uint32_t index = header.completed.load(std::memory_order_relaxed);
    header.completions[index % kLaneEntries] = {call.submission.tag, result};
    header.completed.store(index + 1, std::memory_order_seq_cst);
  }
  if (header.armed.exchange(0, std::memory_order_seq_cst) != 0)
    ::eventfd_write(call.lane->bell.get(), 1);
}

}  // namespace ringdisk
