// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace ringdisk {

// What a reactor without work waits for; a set of them is a sum.
enum class Wait : uint8_t {
  crowd = 0,   // many operations at targets: several are done after any sleep, nobody looks
  guest = 1,   // nothing is under way
  target = 2,  // a few operations
};

// For whom to look before sleeping, and for how long at most. Found out by trying: from time to
// time the four ways take turns, and the one in which a request took least time is kept. How soon
// work comes would not tell: where a guest or its device needs the very CPU that looks out for
// them, looking makes a short wait longer, and how one kind of wait is spent changes the other.
class PollBudget {
 public:
  explicit PollBudget(uint32_t max_us) : max_us_(max_us), ways_(max_us > 0 ? kWays - 1 : 0) {}

  // Whether to look at all.
  bool looks(Wait wait) const { return (ways_ & static_cast<unsigned>(wait)) != 0; }
  // Whether to look on, when there has been nothing for so long.
  bool allows(Wait wait, uint64_t idle_us) const { return looks(wait) && idle_us < max_us_; }

  // A wait of any kind is over. Since the one before: the time spent working, and how many requests
  // were answered.
  void waited(uint64_t us, uint64_t worked_us, uint32_t answered) {
    if (max_us_ == 0) return;
    if (waits_ < kTrials && waits_ % kTurn >= kSettling) {
      Trial& trial = trials_[ways_];
      // Nobody looks for so long, and one guest that pauses must not decide alone.
      trial.us += worked_us + std::min(us, uint64_t{max_us_} * 4);
      trial.answered += answered;
    }
    waits_++;
    if (waits_ < kTrials && waits_ % kTurn == 0) ways_--;
    if (waits_ == kTrials) ways_ = best();
    if (waits_ == kPeriod) *this = PollBudget(max_us_);
  }

  static constexpr unsigned kWays = 4;  // sets of guest and target
  // Waits per way, and how many of them do not count: the scheduler takes its time to move threads
  // together that wake each other, or apart. With a quarter of this the choice was a matter of
  // luck.
  static constexpr uint32_t kTurn = 1024;
  static constexpr uint32_t kSettling = 512;
  static constexpr uint32_t kTrials = kTurn * kWays;
  static constexpr uint32_t kPeriod = kTrials * 16;

 private:
  struct Trial {
    uint64_t us = 0;
    uint64_t answered = 0;
  };

  // Looking for more costs CPU, so it has to gain a tenth.
  unsigned best() const {
    unsigned best = 0;
    for (unsigned way = 1; way < kWays; way++) {
      const auto& [us, answered] = trials_[way];
      if (us * 10 * trials_[best].answered < trials_[best].us * 9 * answered) best = way;
    }
    return best;
  }

  uint32_t max_us_;
  unsigned ways_;  // who is looked for now
  uint32_t waits_ = 0;
  std::array<Trial, kWays> trials_;
};

}  // namespace ringdisk
