// SPDX-License-Identifier: Apache-2.0
#include "reactor/poll_budget.h"

#include <doctest/doctest.h>

namespace ringdisk {
namespace {

constexpr uint32_t kMax = 50;

// How long it looks before it gives up.
uint64_t patience(const PollBudget& budget) {
  uint64_t us = 0;
  while (budget.allows(us)) us++;
  return us;
}

// One period from its start, of waits that take so long when looked for, and asleep; ends with what
// was found better.
void try_both(PollBudget& budget, uint64_t looking_us, uint64_t asleep_us) {
  for (uint32_t i = 0; i < 2 * PollBudget::kTrial; i++)
    budget.waited(budget.looks() ? looking_us : asleep_us);
}

void go_on(PollBudget& budget, uint64_t us) {
  for (uint32_t i = 2 * PollBudget::kTrial; i < PollBudget::kPeriod; i++) budget.waited(us);
}

TEST_CASE("poll budget: looks as long as it may where that makes waits shorter") {
  PollBudget budget(kMax);
  CHECK(patience(budget) == kMax);
  try_both(budget, 20, 60);
  CHECK(patience(budget) == kMax);
}

TEST_CASE("poll budget: does not look where that makes waits longer, or hardly shorter") {
  PollBudget slower(kMax);
  try_both(slower, 40, 20);
  CHECK_FALSE(slower.looks());
  PollBudget as_fast(kMax);
  try_both(as_fast, 19, 20);
  CHECK_FALSE(as_fast.looks());
}

TEST_CASE("poll budget: work that comes late is slept for, whatever single waits say") {
  PollBudget budget(kMax);
  try_both(budget, 70, 75);
  CHECK_FALSE(budget.looks());
  PollBudget once_paused(kMax);
  once_paused.waited(30);
  for (uint32_t i = 1; i < PollBudget::kTrial; i++) once_paused.waited(10);
  once_paused.waited(10'000'000);  // the guest had nothing to ask for ten seconds
  for (uint32_t i = 1; i < PollBudget::kTrial; i++) once_paused.waited(10);
  CHECK(patience(once_paused) == kMax);
  PollBudget late(kMax);
  try_both(late, 10'000, 1'000'000);
  CHECK_FALSE(late.looks());
}

TEST_CASE("poll budget: tries again in the next period") {
  PollBudget budget(kMax);
  try_both(budget, 40, 20);
  go_on(budget, 20);
  CHECK(patience(budget) == kMax);
  try_both(budget, 10, 20);
  CHECK(patience(budget) == kMax);
  go_on(budget, 10);
  try_both(budget, 40, 20);
  CHECK_FALSE(budget.looks());
}

TEST_CASE("poll budget: none allowed is none") {
  PollBudget budget(0);
  for (uint32_t i = 0; i < 2 * PollBudget::kPeriod; i++) {
    budget.waited(0);
    REQUIRE(patience(budget) == 0);
  }
}

}  // namespace
}  // namespace ringdisk
