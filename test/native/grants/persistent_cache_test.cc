// SPDX-License-Identifier: Apache-2.0
#include "grants/persistent_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <vector>

#include "fake_grants.h"

namespace ringdisk {
namespace {

std::vector<Segment> segments(const std::vector<GrantRef>& grefs) {
  std::vector<Segment> made;
  for (const GrantRef gref : grefs) made.push_back({gref, 0, 7, 0});
  return made;
}

struct Fixture {
  FakeGrants grants;
  GrantBudget budget{1000};
  PersistentCache cache;

  explicit Fixture(uint32_t pages_max, uint32_t budget_pages = 1000)
      : budget(budget_pages), cache(grants, budget, 7, pages_max) {}

  bool use(const std::vector<GrantRef>& grefs) {
    std::vector<std::byte*> pages(grefs.size());
    return cache.reach(segments(grefs), pages);
  }
};

TEST_CASE("persistent cache: maps what is missing, in one call, and once") {
  Fixture f(100);
  CHECK(f.use({1, 2, 3}));
  CHECK(f.grants.map_calls == 1);
  CHECK(f.use({3, 1, 2}));
  CHECK(f.grants.map_calls == 1);
  CHECK(f.use({2, 4, 5}));
  CHECK(f.grants.map_calls == 2);
  CHECK(f.cache.mapped_pages() == 5);
  CHECK(f.cache.maps() == 5);
  CHECK(f.budget.used() == 5);
  CHECK(f.grants.domids == std::set<Domid>{7});
}

TEST_CASE("persistent cache: every page's address is its grant's") {
  Fixture f(100);
  for (GrantRef gref = 1; gref <= 9; gref++) f.grants.page(gref)[0] = static_cast<std::byte>(gref);
  CHECK(f.use({4, 5}));
  const std::vector<GrantRef> grefs{9, 4, 1, 5, 2, 9};
  std::vector<std::byte*> pages(grefs.size());
  REQUIRE(f.cache.reach(segments(grefs), pages));
  for (size_t i = 0; i < grefs.size(); i++) CHECK(*pages[i] == static_cast<std::byte>(grefs[i]));
}

TEST_CASE("persistent cache: the same grant many times in one request is one page") {
  Fixture f(100);
  const std::vector<GrantRef> grefs(256, 42);
  std::vector<std::byte*> pages(grefs.size());
  REQUIRE(f.cache.reach(segments(grefs), pages));
  CHECK(f.cache.mapped_pages() == 1);
  for (const std::byte* page : pages) CHECK(page == pages[0]);
}

TEST_CASE("persistent cache: the least recently used goes first") {
  Fixture f(3);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.use({3}));
  CHECK(f.use({1}));  // 2 is the oldest now
  f.cache.age(UINT32_MAX);
  CHECK(f.use({4}));
  CHECK(f.grants.unmapped == std::set<GrantRef>{2});
  CHECK(f.use({5}));
  CHECK(f.grants.unmapped == std::set<GrantRef>{2, 3});
  CHECK(f.cache.mapped_pages() == 3);
  CHECK(f.budget.used() == 3);
  CHECK(f.cache.unmaps() == 2);
}

TEST_CASE("persistent cache: what was used lately makes no room for others") {
  Fixture f(3);
  CHECK(f.use({1, 2, 3}));
  CHECK_FALSE(f.use({4}));
  CHECK(f.grants.unmapped.empty());
  f.cache.age(UINT32_MAX);
  CHECK(f.use({4}));
}

TEST_CASE("persistent cache: what nobody uses is given back after two ages at the latest") {
  Fixture f(10);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.cache.age(UINT32_MAX));
  CHECK(f.use({2}));
  CHECK(f.cache.age(UINT32_MAX));
  CHECK(f.cache.age(UINT32_MAX));
  CHECK_FALSE(f.grants.is_mapped(1));
  CHECK(f.grants.is_mapped(2));
  CHECK(f.cache.age(UINT32_MAX));
  CHECK(f.cache.mapped_pages() == 0);
  CHECK(f.budget.used() == 0);
}

TEST_CASE("persistent cache: many mappings are undone a few at a time") {
  Fixture f(100);
  for (GrantRef gref = 1; gref <= 100; gref++) REQUIRE(f.use({gref}));
  CHECK(f.cache.age(32));
  CHECK(f.cache.age(32));  // two ages have passed
  for (const uint32_t left : {68u, 36u, 4u}) {
    CHECK_FALSE(f.cache.age(32));
    CHECK(f.cache.mapped_pages() == left);
  }
  CHECK(f.cache.age(32));
  CHECK(f.cache.mapped_pages() == 0);
  for (GrantRef gref = 1; gref <= 40; gref++) REQUIRE(f.use({gref}));
  CHECK_FALSE(f.cache.unmap_some(32));
  CHECK(f.cache.unmap_some(32));
  CHECK(f.budget.used() == 0);
}

TEST_CASE("persistent cache: beyond the budget of memory maps nothing is mapped") {
  FakeGrants grants;
  GrantBudget budget(1000, 3);
  PersistentCache cache(grants, budget, 7, 100);
  std::byte* page = nullptr;
  for (GrantRef gref = 1; gref <= 10; gref++) {
    const Segment one{gref, 0, 7, 0};
    CHECK(cache.reach({&one, 1}, {&page, 1}) == (gref <= 3));
  }
  CHECK(budget.maps() == 3);
  CHECK(budget.used() == 3);
}

TEST_CASE("persistent cache: a request never evicts the pages it needs itself") {
  Fixture f(4);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.use({3, 4}));
  f.cache.age(UINT32_MAX);
  // 1 is the oldest, but used by this very request; 2 has to go.
  CHECK(f.use({1, 5}));
  CHECK(f.grants.is_mapped(1));
  CHECK_FALSE(f.grants.is_mapped(2));
}

TEST_CASE("persistent cache: a request above the budget is refused without harm") {
  Fixture f(4);
  CHECK(f.use({1, 2}));
  CHECK_FALSE(f.use({3, 4, 5, 6, 7}));
  CHECK(f.grants.map_calls == 1);
  CHECK(f.grants.is_mapped(1));
  Fixture none(0);
  CHECK_FALSE(none.use({1}));
  CHECK(none.grants.map_calls == 0);
}

TEST_CASE("persistent cache: the host-wide budget evicts one's own idle pages only") {
  FakeGrants grants;
  GrantBudget budget(4);
  PersistentCache mine(grants, budget, 1, 100);
  PersistentCache theirs(grants, budget, 2, 100);
  std::array<std::byte*, 2> pages;
  REQUIRE(theirs.reach(segments({1, 2}), pages));
  REQUIRE(mine.reach(segments({11, 12}), pages));
  mine.age(UINT32_MAX);
  theirs.age(UINT32_MAX);
  REQUIRE(mine.reach(segments({13, 14}), pages));
  CHECK(theirs.mapped_pages() == 2);
  CHECK(mine.mapped_pages() == 2);
  CHECK(grants.unmapped == std::set<GrantRef>{11, 12});
  CHECK_FALSE(mine.reach(segments({15}), pages));
  CHECK(budget.used() == 4);
}

TEST_CASE("persistent cache: a grant that cannot be mapped leaves nothing behind") {
  Fixture f(100);
  CHECK(f.use({1, 2}));
  f.grants.refused = {66};
  CHECK_FALSE(f.use({1, 3, 66, 3}));
  CHECK(f.cache.mapped_pages() == 2);
  CHECK(f.budget.used() == 2);
  CHECK_FALSE(f.grants.is_mapped(3));
  // Neither the good one nor the bad one is remembered.
  f.grants.refused = {};
  CHECK(f.use({3, 66}));
  CHECK(f.use({1, 2}));
  CHECK(f.cache.mapped_pages() == 4);
}

TEST_CASE("persistent cache: the end unmaps everything and gives the budget back") {
  FakeGrants grants;
  GrantBudget budget(1000);
  {
    PersistentCache cache(grants, budget, 1, 500);
    std::vector<std::byte*> pages(200);
    std::vector<GrantRef> grefs(200);
    for (GrantRef i = 0; i < 200; i++) grefs[i] = i * 4096;
    REQUIRE(cache.reach(segments(grefs), pages));
    CHECK(budget.used() == 200);
  }
  CHECK(budget.used() == 0);
  CHECK(grants.mapped_pages == 0);
}

// Grants with equal low bits are what a hostile guest would pick to make every look-up collide.
TEST_CASE("persistent cache: agrees with a model under random requests with colliding grants") {
  constexpr uint32_t kPagesMax = 48;
  Fixture f(kPagesMax, 40);
  std::mt19937 random(4711);
  for (int step = 0; step < 30000; step++) {
    if (step % 10 == 0) f.cache.age(UINT32_MAX);
    std::vector<GrantRef> grefs;
    for (size_t count = 1 + random() % 12; count > 0; count--) {
      const GrantRef low = random() % 4;
      grefs.push_back(low + (random() % 24) * (1u << (random() % 2 == 0 ? 10 : 20)));
    }
    f.grants.refused = random() % 10 == 0 ? std::set{grefs[0]} : std::set<GrantRef>{};
    std::vector<std::byte*> pages(grefs.size());
    if (f.cache.reach(segments(grefs), pages)) {
      // What was reached is mapped, one address per grant.
      for (size_t i = 0; i < grefs.size(); i++) {
        REQUIRE(f.grants.is_mapped(grefs[i]));
        for (size_t j = 0; j < i; j++) REQUIRE((grefs[i] == grefs[j]) == (pages[i] == pages[j]));
      }
    }
    REQUIRE(f.cache.mapped_pages() == f.grants.mapped_pages);
    REQUIRE(f.cache.mapped_pages() <= kPagesMax);
    REQUIRE(f.budget.used() == f.cache.mapped_pages());
    REQUIRE(f.budget.used() <= 40);
  }
  CHECK(f.cache.unmaps() > 1000);
}

}  // namespace
}  // namespace ringdisk
