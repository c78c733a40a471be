// SPDX-License-Identifier: Apache-2.0
#include "reactor/poll_budget.h"

#include <doctest/doctest.h>

namespace ringdisk {
namespace {

// How long it looks before it gives up.
uint64_t patience(const PollBudget& budget) {
  uint64_t us = 0;
  while (budget.allows(us)) us++;
  return us;
}

TEST_CASE("poll budget: work that comes late again and again ends in not looking") {
  PollBudget budget(50);
  CHECK(patience(budget) == 50);
  budget.waited(1000);
  CHECK(patience(budget) == 25);
  for (int i = 0; i < 5; i++) budget.waited(50);
  CHECK(patience(budget) == 0);
  CHECK_FALSE(budget.looks());
}

TEST_CASE("poll budget: work that comes soon brings it back, until it is enough for that work") {
  PollBudget budget(50);
  while (budget.looks()) budget.waited(1000);
  budget.waited(20);
  CHECK(patience(budget) == 4);
  while (patience(budget) <= 20) budget.waited(20);
  CHECK(patience(budget) == 32);
  budget.waited(40);
  CHECK(patience(budget) == 50);
}

TEST_CASE("poll budget: none allowed is none") {
  PollBudget budget(0);
  budget.waited(0);
  CHECK(patience(budget) == 0);
}

}  // namespace
}  // namespace ringdisk
