// SPDX-License-Identifier: Apache-2.0
// A target whose medium is memory and whose operations finish when the test says so, in any order
// and with any result. It checks what every target may rely on: alignment and bounds.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "base/assert.h"
#include "reactor/reactor.h"
#include "targets/target.h"

namespace ringdisk {

class ScriptedTarget final : public Target {
 public:
  // An operation a queue has started and nobody has finished.
  struct Held {
    Operation* operation;
    Operation::Kind kind;
    uint64_t offset;
    uint64_t length;
  };

  explicit ScriptedTarget(uint64_t bytes, uint32_t io_alignment = kSectorBytes) : medium_(bytes) {
    facts_.capabilities.capacity = bytes;
    facts_.capabilities.io_alignment = io_alignment;
    facts_.capabilities.discard = true;
  }
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override;

  std::byte at(uint64_t offset) {
    const std::lock_guard lock(mutex_);
    return medium_[offset];
  }
  void fill(int value) {
    const std::lock_guard lock(mutex_);
    std::memset(medium_.data(), value, medium_.size());
  }
  // From now on: whether operations wait for finish() or are done at once.
  void hold(bool held) {
    const std::lock_guard lock(mutex_);
    holding_ = held;
  }
  // The next so many operations of this kind that are not held fail with `error` (an errno).
  void fail(Operation::Kind kind, int count, int error) {
    const std::lock_guard lock(mutex_);
    failing_kind_ = kind;
    failing_ = count;
    error_ = error;
  }
  // Waits (bounded) until `count` operations are held; returns all of them, oldest first.
  std::vector<Held> await_held(size_t count);
  size_t held_count() {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }
  // For a test that finished operations itself.
  void forget_held() {
    const std::lock_guard lock(mutex_);
    held_.clear();
  }
  // Finishes one held operation on `reactor`; data moves only when `result` is 0.
  void finish(Reactor& reactor, const Held& held, int32_t result = 0);

 private:
  friend class ScriptedChannel;
  bool start(Operation& operation);
  int32_t carry_out(Operation& operation);

  std::mutex mutex_;  // guards everything below
  std::vector<std::byte> medium_;
  std::condition_variable changed_;
  std::deque<Held> held_;
  bool holding_ = false;
  Operation::Kind failing_kind_ = Operation::Kind::flush;
  int failing_ = 0;
  int error_ = 0;
};

class ScriptedChannel final : public TargetChannel {
 public:
  explicit ScriptedChannel(ScriptedTarget& target) : target_(target) {}
  bool start(Operation& operation) override { return target_.start(operation); }
  bool advance(Operation&, int32_t) override {
    RD_ASSERT(!"nothing is ever submitted");
    return true;
  }

 private:
  ScriptedTarget& target_;
};

inline std::unique_ptr<TargetChannel> ScriptedTarget::open_channel(const ChannelContext&) {
  return std::make_unique<ScriptedChannel>(*this);
}

inline std::vector<ScriptedTarget::Held> ScriptedTarget::await_held(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(10), [&] { return held_.size() >= count; });
  RD_ASSERT(held_.size() >= count);
  return {held_.begin(), held_.end()};
}

inline bool ScriptedTarget::start(Operation& operation) {
  const uint64_t alignment = capabilities().io_alignment;
  RD_ASSERT((operation.offset | operation.length) % alignment == 0);
  RD_ASSERT(operation.offset + operation.length <= medium_.size());
  RD_ASSERT(reinterpret_cast<uintptr_t>(operation.memory) % kPageBytes == 0);
  const std::lock_guard lock(mutex_);
  if (holding_) {
    held_.push_back({&operation, operation.kind, operation.offset, operation.length});
    changed_.notify_all();
    return false;
  }
  if (operation.kind == failing_kind_ && failing_ > 0) {
    failing_--;
    operation.result = -error_;
  } else {
    operation.result = carry_out(operation);
  }
  return true;
}

inline int32_t ScriptedTarget::carry_out(Operation& operation) {
  if (operation.kind == Operation::Kind::flush) return 0;
  std::byte* at = medium_.data() + operation.offset;
  if (operation.kind == Operation::Kind::discard) {
    std::memset(at, 0, operation.length);
    return 0;
  }
  const bool read = operation.kind == Operation::Kind::read;
  std::memcpy(read ? operation.memory : at, read ? at : operation.memory, operation.length);
  return 0;
}

inline void ScriptedTarget::finish(Reactor& reactor, const Held& held, int32_t result) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(held_, [&](const Held& one) { return one.operation == held.operation; });
  }
  const bool posted = reactor.post([this, operation = held.operation, result] {
    {
      const std::lock_guard lock(mutex_);
      operation->result = result == 0 ? carry_out(*operation) : result;
    }
    operation->sink->finished(*operation);
  });
  RD_ASSERT(posted);
}

}  // namespace ringdisk
