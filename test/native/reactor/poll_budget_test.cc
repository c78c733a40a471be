// SPDX-License-Identifier: Apache-2.0
#include "reactor/poll_budget.h"

#include <doctest/doctest.h>

namespace ringdisk {
namespace {

// How long it looks before it gives up.
uint64_t patience(PollBudget& budget) {
  uint64_t us = 0;
  while (budget.allows(us)) us++;
  return us;
}

TEST_CASE("poll budget: looking in vain again and again ends in not looking") {
  PollBudget budget(50);
  CHECK(patience(budget) == 50);
  CHECK(patience(budget) == 25);
  for (int i = 0; i < 5; i++) patience(budget);
  CHECK(patience(budget) == 0);
}

TEST_CASE("poll budget: work soon after giving up brings it back, late work does not") {
  PollBudget budget(50);
  while (patience(budget) > 0);
  budget.slept(1000);
  CHECK(patience(budget) == 0);
  budget.slept(20);
  CHECK(patience(budget) == 4);
  for (int i = 0; i < 10; i++) budget.slept(20);
  CHECK(patience(budget) == 50);
}

TEST_CASE("poll budget: none allowed is none") {
  PollBudget budget(0);
  budget.slept(0);
  CHECK(patience(budget) == 0);
}

}  // namespace
}  // namespace ringdisk
