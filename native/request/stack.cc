// SPDX-License-Identifier: Apache-2.0
#include "request/stack.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace ringdisk {

bool Stack::has(uint32_t id) const {
  return std::ranges::find(filters_, id, &Filter::id) != filters_.end();
}

void Stack::put(std::unique_ptr<Filter> filter) {
  filters_.insert(filters_.begin(), filter.get());
  filter->inner() = std::move(top_);
  top_ = std::move(filter);
}

void Stack::remove(uint32_t id) {
  const auto found = std::ranges::find(filters_, id, &Filter::id);
  RD_ASSERT(found != filters_.end());
  std::unique_ptr<TargetChannel>& link =
      found == filters_.begin() ? top_ : (*std::prev(found))->inner();
  std::unique_ptr<TargetChannel> inner = std::move((*found)->inner());
  filters_.erase(found);
  leave(std::exchange(link, std::move(inner)));
}

void Stack::replace(std::unique_ptr<TargetChannel> bottom) {
  filters_.clear();
  leave(std::exchange(top_, std::move(bottom)));
}

void Stack::leave(std::unique_ptr<TargetChannel> channel) {
  std::erase_if(leaving_, [](const auto& one) { return one->is_gone; });
  leaving_.push_back(std::make_unique<Leaving>(std::move(channel)));
  not_gone_++;
  Leaving& one = *leaving_.back();
  one.channel->close([this, &one] {
    one.is_gone = true;
    one_is_gone();
  });
}

void Stack::close(std::function<void()> done) {
  closed_ = std::move(done);
  not_gone_++;
  top_->close([this] { one_is_gone(); });
}

void Stack::one_is_gone() {
  if (--not_gone_ == 0 && closed_) std::exchange(closed_, nullptr)();
}

}  // namespace ringdisk
