// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "targets/target.h"

namespace ringdisk {

// A channel before another: it submits nothing itself, and what it is asked about its memory and
// its end is for the one behind it.
class ChannelBefore : public TargetChannel {
 public:
  bool advance(Operation&, int32_t) final {
    RD_ASSERT(!"what is submitted is the inner channel's");
    return true;
  }
  void cancel_discards() override { inner_->cancel_discards(); }
  bool give_memory_back() override { return inner_->give_memory_back(); }
  bool holds_memory() const override { return inner_->holds_memory(); }
  void break_off() override { inner_->break_off(); }
  void close(std::function<void()> done) override { inner_->close(std::move(done)); }

 protected:
  explicit ChannelBefore(std::unique_ptr<TargetChannel> inner = nullptr)
      : inner_(std::move(inner)) {}
  // It has nothing more to do with the operation.
  bool hand_on(Operation& operation) {
    operation.channel = inner_.get();
    return inner_->start(operation);
  }

  std::unique_ptr<TargetChannel> inner_;
};

}  // namespace ringdisk
