// SPDX-License-Identifier: Apache-2.0
// A queue's channels: what the target opened, behind filters.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "channels/filter.h"
#include "targets/target.h"

namespace ringdisk {

class Stack {
 public:
  explicit Stack(std::unique_ptr<TargetChannel> bottom) : top_(std::move(bottom)) {}

  TargetChannel* top() const { return top_.get(); }
  bool has(uint32_t id) const;
  // While nothing is with any of them.
  void put(std::unique_ptr<Filter> filter);
  void remove(uint32_t id);
  // All of them go, and this is what there is.
  void replace(std::unique_ptr<TargetChannel> bottom);
  // The end of all, those that were removed included; `done` at once or later.
  void close(std::function<void()> done);

 private:
  void leave(std::unique_ptr<TargetChannel> channel);
  void one_is_gone();

  std::unique_ptr<TargetChannel> top_;
  std::vector<Filter*> filters_;  // outermost first
  // Removed. One may be at work when it finds that it has ended, so it is deleted later.
  struct Leaving {
    std::unique_ptr<TargetChannel> channel;
    bool is_gone = false;
  };
  std::vector<std::unique_ptr<Leaving>> leaving_;
  std::function<void()> closed_;
  uint32_t not_gone_ = 0;
};

}  // namespace ringdisk
