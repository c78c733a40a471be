// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "targets/target.h"

namespace ringdisk {

// From reactors and helper threads to the engine's owner. Bounded by its senders: each command and
// each queue's change of state is reported once.
struct BusMessage {
  enum class Type : uint8_t {
    target_opened,
    target_refreshed,
    target_claimed,
    target_closed,
    target_tracked,
    target_warned,
    command_failed,
    fence_lifted,
    queue_made,
    queue_serving,
    queue_recovered,
    queue_failed,
    queue_down,
    exchanged,
    exchange_held,
    mirror_made,
    mirror_given,
    mirror_closed,
    mirror_changed,
    mirror_gone,
    export_added,
    export_removed,
    ring_broken,
    io_failing,
    io_recovered,
  };
  Type type;
  uint32_t command = 0;  // target_*, command_failed, exchange*, mirror_*, export_*
  // target_*, fence_lifted: the target; export_*, mirror_*: that; others: the VBD
  uint32_t handle = 0;
  uint32_t queue = 0;
  int error = 0;          // errno
  bool drained = true;    // queue_down
  bool fenced = false;    // target_claimed
  uint64_t capacity = 0;  // target_refreshed: as measured, bytes
  uint64_t direct_end = 0;
  std::string text{};
  std::shared_ptr<Target> target{};
};

class EventBus {
 public:
  // `wake` is called on the sender's thread, once until the next take().
  explicit EventBus(std::function<void()> wake) : wake_(std::move(wake)) {}

  void send(BusMessage message) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    messages_.push_back(std::move(message));
    if (messages_.size() == 1 && wake_) wake_();
  }
  std::vector<BusMessage> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(messages_, {});
  }
  // No wake() after this; late messages are dropped.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    wake_ = nullptr;
  }

 private:
  std::mutex mutex_;
  std::function<void()> wake_;
  std::vector<BusMessage> messages_;
  bool closed_ = false;
};

}  // namespace ringdisk
