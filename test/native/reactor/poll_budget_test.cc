// SPDX-License-Identifier: Apache-2.0
#include "reactor/poll_budget.h"

#include <doctest/doctest.h>

#include <functional>

namespace ringdisk {
namespace {

constexpr uint32_t kMax = 50;

// How long it looks before it gives up.
uint64_t patience(const PollBudget& budget, Wait wait) {
  uint64_t us = 0;
  while (budget.allows(wait, us)) us++;
  return us;
}

// A guest that asks for one thing at a time: waits for its device and for the guest take turns.
// The time of each is a function of whether it is looked for, and whether the other kind is.
struct LoneGuest {
  std::function<uint64_t(bool looked, bool other)> target_us, guest_us;

  void run(PollBudget& budget, uint32_t waits) const {
    for (uint32_t i = 0; i < waits; i += 2) {
      const bool target = budget.looks(Wait::target);
      const bool guest = budget.looks(Wait::guest);
      budget.waited(target_us(target, guest), 2, 0);
      budget.waited(guest_us(guest, target), 2, 1);
    }
  }
};

auto always(uint64_t us) {
  return [us](bool, bool) { return us; };
}
auto sooner_when_looked_for(uint64_t us, uint64_t wakeup_us) {
  return [=](bool looked, bool) { return us + (looked ? 0 : wakeup_us); };
}

TEST_CASE("poll budget: looks for whom looking brings sooner, as long as it may") {
  PollBudget budget(kMax);
  CHECK(patience(budget, Wait::guest) == kMax);
  CHECK(patience(budget, Wait::target) == kMax);
  CHECK_FALSE(budget.looks(Wait::crowd));
  const LoneGuest guest{sooner_when_looked_for(10, 30), sooner_when_looked_for(5, 30)};
  guest.run(budget, PollBudget::kTrials);
  CHECK(patience(budget, Wait::guest) == kMax);
  CHECK(patience(budget, Wait::target) == kMax);
  CHECK_FALSE(budget.looks(Wait::crowd));
}

TEST_CASE("poll budget: looks for one kind alone") {
  PollBudget slow_device(kMax);
  LoneGuest{always(80), sooner_when_looked_for(5, 30)}.run(slow_device, PollBudget::kTrials);
  CHECK(slow_device.looks(Wait::guest));
  CHECK_FALSE(slow_device.looks(Wait::target));
  PollBudget busy_guest(kMax);
  LoneGuest{sooner_when_looked_for(5, 30), always(40)}.run(busy_guest, PollBudget::kTrials);
  CHECK_FALSE(busy_guest.looks(Wait::guest));
  CHECK(busy_guest.looks(Wait::target));
}

TEST_CASE("poll budget: does not look where that gains little, or makes the other wait longer") {
  PollBudget little(kMax);
  LoneGuest{sooner_when_looked_for(100, 5), sooner_when_looked_for(5, 5)}.run(little,
                                                                              PollBudget::kTrials);
  CHECK_FALSE(little.looks(Wait::guest));
  CHECK_FALSE(little.looks(Wait::target));
  // One CPU for all: whoever looks keeps the others from working.
  const auto hindered = [](bool looked, bool other) {
    return uint64_t{20} + (looked ? 10 : 0) + (other ? 10 : 0);
  };
  PollBudget crowded(kMax);
  LoneGuest{hindered, hindered}.run(crowded, PollBudget::kTrials);
  CHECK_FALSE(crowded.looks(Wait::guest));
  CHECK_FALSE(crowded.looks(Wait::target));
}

TEST_CASE("poll budget: a long pause of the guest does not decide") {
  PollBudget budget(kMax);
  const LoneGuest guest{sooner_when_looked_for(10, 30), sooner_when_looked_for(5, 30)};
  guest.run(budget, 10);
  budget.waited(10'000'000, 0, 0);
  guest.run(budget, PollBudget::kTrials - 11);
  CHECK(budget.looks(Wait::guest));
  CHECK(budget.looks(Wait::target));
  PollBudget idle(kMax);
  LoneGuest{always(10'000), always(1'000'000)}.run(idle, PollBudget::kTrials);
  CHECK_FALSE(idle.looks(Wait::guest));
  CHECK_FALSE(idle.looks(Wait::target));
}

TEST_CASE("poll budget: tries again in the next period") {
  PollBudget budget(kMax);
  LoneGuest{always(40), always(40)}.run(budget, PollBudget::kPeriod - 2);
  CHECK_FALSE(budget.looks(Wait::guest));
  const LoneGuest fast{sooner_when_looked_for(10, 30), sooner_when_looked_for(5, 30)};
  fast.run(budget, PollBudget::kTrials + 2);
  CHECK(budget.looks(Wait::guest));
  CHECK(budget.looks(Wait::target));
}

TEST_CASE("poll budget: none allowed is none") {
  PollBudget budget(0);
  for (uint32_t i = 0; i < 2 * PollBudget::kPeriod; i++) {
    budget.waited(1, 1, 1);
    REQUIRE_FALSE(budget.looks(Wait::guest));
    REQUIRE_FALSE(budget.looks(Wait::target));
  }
}

}  // namespace
}  // namespace ringdisk
