// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringdisk {

// How long to look for work before sleeping: up to a maximum while looking pays, down to nothing
// while it does not. A wait of one kind has a budget of its own: how soon a device answers says
// nothing about how soon a guest asks again.
class PollBudget {
 public:
  explicit PollBudget(uint32_t max_us) : max_us_(max_us), budget_us_(max_us) {}

  // Whether to look on, when there has been nothing for so long.
  bool allows(uint64_t idle_us) {
    if (idle_us < budget_us_) return true;
    budget_us_ /= 2;  // looked long enough, in vain
    return false;
  }
  // How long it slept afterwards: work that came soon would have been found by looking on.
  void slept(uint64_t us) {
    if (us < max_us_) budget_us_ = std::min(std::max(budget_us_ * 2, 4u), max_us_);
  }

 private:
  const uint32_t max_us_;
  uint32_t budget_us_;
};

}  // namespace ringdisk
