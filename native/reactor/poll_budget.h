// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringdisk {

// How long to look for work before sleeping: up to a maximum while work comes within that, down to
// nothing while it does not. A wait of one kind has a budget of its own: how soon a device answers
// says nothing about how soon a guest asks again.
class PollBudget {
 public:
  explicit PollBudget(uint32_t max_us) : max_us_(max_us), budget_us_(max_us) {}

  // Whether to look on, when there has been nothing for so long.
  bool allows(uint64_t idle_us) const { return idle_us < budget_us_; }
  // Whether to look at all.
  bool looks() const { return budget_us_ > 0; }
  // How long it took all the same, the time slept included.
  void waited(uint64_t us) {
    budget_us_ = us < max_us_ ? std::min(std::max(budget_us_ * 2, 4u), max_us_) : budget_us_ / 2;
  }

 private:
  const uint32_t max_us_;
  uint32_t budget_us_;
};

}  // namespace ringdisk
