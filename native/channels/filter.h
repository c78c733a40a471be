// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "io/operation.h"
#include "targets/channel_before.h"
#include "targets/target.h"

namespace ringdisk {

// A channel in front of another. A queue's stack is what its target opened, with filters before it;
// they come and go while the guest runs (request/exchange.cc), but only while no operation is with
// any channel of the VBD.
//
// A filter that only wants to see what comes hands the operation itself on, and has then nothing
// more to do with it. One that wants to see the end, too, becomes its sink and remembers whose it
// was; one that makes several of one starts operations of its own (targets/split_channel.h).
class Filter : public ChannelBefore {
 public:
  // As it is known to whoever put it there.
  explicit Filter(uint32_t id) : id_(id) {}

  uint32_t id() const { return id_; }
  std::unique_ptr<TargetChannel>& inner() { return inner_; }

  // Its own end, then that of what is behind it, if it is still there.
  void close(std::function<void()> done) override {
    end([this, done = std::move(done)]() mutable {
      if (!inner_) return done();
      ChannelBefore::close(std::move(done));
    });
  }

 protected:
  virtual void end(std::function<void()> done) { done(); }

 private:
  const uint32_t id_;
};

using FilterMaker = std::function<std::unique_ptr<Filter>(const ChannelContext&)>;

// How a VBD's stacks change: a filter comes in front, or the one with this id goes, or all of them
// go with the target and there is another one.
struct StackChange {
  // Of each queue, on its reactor; may throw std::system_error or std::bad_alloc. Empty: one goes.
  FilterMaker make{};
  uint32_t goes = 0;
  std::shared_ptr<Target> target{};
  // For what is in flight to come back; until then nothing new is started.
  uint64_t patience_us = 5'000'000;
};

}  // namespace ringdisk
