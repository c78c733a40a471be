// SPDX-License-Identifier: Apache-2.0
// What a reactor and a queue do for a target, reduced to one operation at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/assert.h"
#include "base/units.h"
#include "io/alarms.h"
#include "io/bounce_share.h"
#include "io/uring.h"
#include "metrics/counters.h"
#include "open_now.h"
#include "targets/lanes.h"
#include "targets/target.h"

namespace ringdisk {

// Memory as a queue gives it to a target: one run of bytes that starts on a page boundary.
class TestMemory {
 public:
  explicit TestMemory(size_t bytes);

  std::span<std::byte> bytes() const { return {memory_.get(), bytes_}; }
  void fill(uint32_t seed);
  void clear();
  bool matches(uint32_t seed) const;
  bool is_zero() const;

 private:
  size_t bytes_;
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
};

class TargetDriver {
 public:
  static constexpr uint32_t kDepth = 128;
  explicit TargetDriver(Target& target);
  ~TargetDriver();  // what was started must be over

  // The result of the finished operation: 0 or -errno.
  int32_t write(uint64_t offset, TestMemory& memory);
  int32_t read(uint64_t offset, TestMemory& memory);
  int32_t flush();
  int32_t discard(uint64_t offset, uint64_t length, bool secure = false);
  int32_t run(Operation& operation);

  // Whatever parts come back within `most`, linked by next.
  Operation* parts(std::chrono::milliseconds most);
  // The next part that comes back for a started operation; sets its part_result.
  void await_part(Operation& operation);

  // For operations that were started together; how many came to their end, all with 0.
  size_t finish_all();
  // As a reactor does it, for channels that start operations of their own: until nothing is in
  // flight. Each has its channel and its sink.
  void run_all();
  // A round of a reactor, that looks at what was posted every 5 ms.
  void turn();

  static Operation transfer(Operation::Kind kind, uint64_t offset, TestMemory& memory);

  Uring& uring() { return uring_; }
  Lanes& lanes() { return lanes_; }
  Alarms& alarms() { return alarms_; }
  const QueueCounters& counters() const { return counters_; }
  TargetChannel& channel() { return *channel_; }

 private:
  void listen();
  void run_posted();
  Operation* next_part();

  // What workers' business posts to this thread: looked at while a part is waited for.
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  uint64_t bell_ = 0;
  Uring uring_;
  Lanes lanes_;
  BouncePool pool_{uring_, 4u << 20};
  BounceShare memory_{pool_};
  Alarms alarms_{[](uint64_t) {}};
  QueueCounters counters_;
  std::unique_ptr<TargetChannel> channel_;
};

// A pattern that differs at every 8 bytes, so that swapped pieces are noticed.
inline uint64_t pattern(uint32_t seed, uint64_t position) {
  return (uint64_t{seed} << 32 | position / 8) * 0x9e37'79b9'7f4a'7c15ull;
}

inline TestMemory::TestMemory(size_t bytes)
    : bytes_(bytes),
      memory_(static_cast<std::byte*>(std::aligned_alloc(
                  kPageBytes, (bytes + kPageBytes - 1) / kPageBytes * kPageBytes)),
              std::free) {
  RD_ASSERT(memory_ != nullptr);
  clear();
}

inline void TestMemory::clear() { std::memset(memory_.get(), 0xa5, bytes_); }

inline void TestMemory::fill(uint32_t seed) {
  for (size_t position = 0; position < bytes_; position += 8) {
    const uint64_t value = pattern(seed, position);
    std::memcpy(memory_.get() + position, &value, 8);
  }
}

inline bool TestMemory::matches(uint32_t seed) const {
  for (size_t position = 0; position < bytes_; position += 8) {
    const uint64_t value = pattern(seed, position);
    if (std::memcmp(memory_.get() + position, &value, 8) != 0) return false;
  }
  return true;
}

inline bool TestMemory::is_zero() const {
  return std::ranges::all_of(bytes(), [](std::byte byte) { return byte == std::byte{0}; });
}

inline TargetDriver::TargetDriver(Target& target)
    : uring_(probe_uring()), lanes_([this](std::function<void()> work) {
        const std::lock_guard lock(mutex_);
        posted_.push_back(std::move(work));
      }) {
  channel_ = target.open_channel({uring_, lanes_, kDepth, memory_, alarms_, counters_});
  listen();
}

inline void TargetDriver::listen() {
  uring_.read_when_readable(lanes_.bell(), std::as_writable_bytes(std::span(&bell_, 1)),
                            Wakeup::lanes);
}

inline void TargetDriver::run_posted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (const auto& work : posted) work();
}

inline Operation TargetDriver::transfer(Operation::Kind kind, uint64_t offset, TestMemory& memory) {
  Operation operation{};
  operation.kind = kind;
  operation.offset = offset;
  operation.length = memory.bytes().size();
  operation.memory = memory.bytes().data();
  return operation;
}

inline int32_t TargetDriver::write(uint64_t offset, TestMemory& memory) {
  Operation operation = transfer(Operation::Kind::write, offset, memory);
  return run(operation);
}

inline int32_t TargetDriver::read(uint64_t offset, TestMemory& memory) {
  memory.clear();
  Operation operation = transfer(Operation::Kind::read, offset, memory);
  return run(operation);
}

inline int32_t TargetDriver::flush() {
  Operation operation{};
  operation.kind = Operation::Kind::flush;
  return run(operation);
}

inline int32_t TargetDriver::discard(uint64_t offset, uint64_t length, bool secure) {
  Operation operation{};
  operation.kind = Operation::Kind::discard;
  operation.secure = secure;
  operation.offset = offset;
  operation.length = length;
  return run(operation);
}

inline TargetDriver::~TargetDriver() {
  bool closed = false;
  channel_->close([&closed] { closed = true; });
  while (!closed) turn();
}

inline int32_t TargetDriver::run(Operation& operation) {
  struct Sink final : OperationSink {
    bool is_over = false;
    void finished(Operation&) override { is_over = true; }
  } sink;
  operation.channel = channel_.get();
  operation.sink = &sink;
  sink.is_over = channel_->start(operation);
  while (!sink.is_over) turn();
  return operation.result;
}

inline void TargetDriver::turn() {
  lanes_.ring();
  if (lanes_.arm()) uring_.sleep(5000);
  const Uring::Reaped reaped = uring_.reap();
  if (reaped.lanes) listen();
  run_posted();
  for (Operation* list : {reaped.operations, lanes_.collect()}) {
    while (list) {
      Operation& part = *list;
      list = part.next;
      if (part.channel->advance(part, part.part_result)) part.sink->finished(part);
    }
  }
}

// As a reactor does it, but that it looks at what was posted every 5 ms.
inline Operation* TargetDriver::next_part() {
  for (;;) {
    lanes_.ring();
    if (lanes_.arm()) uring_.sleep(5000);
    const Uring::Reaped reaped = uring_.reap();
    if (reaped.lanes) listen();
    run_posted();
    if (reaped.operations) return reaped.operations;
    if (Operation* done = lanes_.collect()) return done;
  }
}

inline size_t TargetDriver::finish_all() {
  size_t finished = 0;
  while (lanes_.in_flight() + uring_.operations_in_flight() > 0) {
    for (Operation* one = next_part(); one != nullptr;) {
      Operation& part = *one;
      one = part.next;
      if (channel_->advance(part, part.part_result)) finished += part.result == 0 ? 1 : 0;
    }
  }
  return finished;
}

inline void TargetDriver::run_all() {
  while (lanes_.in_flight() + uring_.operations_in_flight() > 0) turn();
}

inline Operation* TargetDriver::parts(std::chrono::milliseconds most) {
  lanes_.ring();
  if (lanes_.arm()) uring_.sleep(static_cast<uint64_t>(most.count()) * 1000);
  const Uring::Reaped reaped = uring_.reap();
  if (reaped.lanes) listen();
  run_posted();
  return reaped.operations ? reaped.operations : lanes_.collect();
}

inline void TargetDriver::await_part(Operation& operation) {
  const Operation* done = next_part();
  RD_ASSERT(done == &operation && done->next == nullptr);
}

}  // namespace ringdisk
