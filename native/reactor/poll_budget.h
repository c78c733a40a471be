// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringdisk {

// Whether to look for work before sleeping, and for how long at most. Found out by trying: from
// time to time some waits are spent looking and some asleep, and what made them shorter is kept.
// How long they take would not tell: where the guest or its device needs the CPU that looks out for
// them, looking makes even a short wait longer. A wait of one kind has a budget of its own: what is
// good for a device says nothing about guests.
class PollBudget {
 public:
  explicit PollBudget(uint32_t max_us) : max_us_(max_us), budget_us_(max_us) {}

  // Whether to look on, when there has been nothing for so long.
  bool allows(uint64_t idle_us) const { return idle_us < budget_us_; }
  // Whether to look at all.
  bool looks() const { return budget_us_ > 0; }
  // How long it took until there was work, found by looking or by being woken.
  void waited(uint64_t us) {
    if (max_us_ == 0) return;
    // Nobody looks for so long, and one guest that pauses must not decide alone.
    const uint64_t counted = std::min(us, uint64_t{max_us_} * 4);
    waits_++;
    if (waits_ <= kTrial)
      looking_us_ += counted;
    else if (waits_ <= 2 * kTrial)
      asleep_us_ += counted;
    if (waits_ == kTrial) budget_us_ = 0;
    // It has to be a real gain: a look costs CPU, a sleep does not.
    if (waits_ == 2 * kTrial) budget_us_ = looking_us_ * 10 < asleep_us_ * 9 ? max_us_ : 0;
    if (waits_ == kPeriod) *this = PollBudget(max_us_);
  }

  static constexpr uint32_t kTrial = 32;     // waits spent looking, and as many asleep, ...
  static constexpr uint32_t kPeriod = 2048;  // ... out of so many

 private:
  uint32_t max_us_;
  uint32_t budget_us_;
  uint32_t waits_ = 0;
  uint64_t looking_us_ = 0;
  uint64_t asleep_us_ = 0;
};

}  // namespace ringdisk
