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

  // Pins and lets go at once.
  bool use(const std::vector<GrantRef>& grefs) {
    std::vector<PersistentCache::Page> pages(grefs.size());
    if (!cache.pin(segments(grefs), pages)) return false;
    cache.unpin(pages);
    return true;
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
  std::vector<PersistentCache::Page> pages(grefs.size());
  REQUIRE(f.cache.pin(segments(grefs), pages));
  for (size_t i = 0; i < grefs.size(); i++)
    CHECK(*pages[i].address == static_cast<std::byte>(grefs[i]));
  f.cache.unpin(pages);
}

TEST_CASE("persistent cache: the same grant many times in one request is one page") {
  Fixture f(100);
  const std::vector<GrantRef> grefs(256, 42);
  std::vector<PersistentCache::Page> pages(grefs.size());
  REQUIRE(f.cache.pin(segments(grefs), pages));
  CHECK(f.cache.mapped_pages() == 1);
  for (const auto& page : pages) CHECK(page.address == pages[0].address);
  // One of 256 pins keeps it.
  f.cache.unpin(std::span(pages).first(255));
  for (GrantRef gref = 100; gref < 300; gref++) f.use({gref});
  CHECK(f.grants.is_mapped(42));
  f.cache.unpin(std::span(pages).last(1));
}

TEST_CASE("persistent cache: the least recently used goes first") {
  Fixture f(3);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.use({3}));
  CHECK(f.use({1}));  // 2 is the oldest now
  f.cache.age();
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
  f.cache.age();
  CHECK(f.use({4}));
}

TEST_CASE("persistent cache: what nobody uses is given back after two ages at the latest") {
  Fixture f(10);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.cache.age());
  CHECK(f.use({2}));
  CHECK(f.cache.age());
  CHECK(f.cache.age());
  CHECK_FALSE(f.grants.is_mapped(1));
  CHECK(f.grants.is_mapped(2));
  CHECK_FALSE(f.cache.age());
  CHECK(f.budget.used() == 0);
}

TEST_CASE("persistent cache: a pinned page is never unmapped") {
  Fixture f(3);
  std::array<PersistentCache::Page, 2> pages;
  REQUIRE(f.cache.pin(segments({1, 2}), pages));
  CHECK(f.use({3}));
  f.cache.age();
  CHECK(f.use({4}));  // evicts 3
  CHECK_FALSE(f.grants.is_mapped(3));
  std::array<PersistentCache::Page, 1> third;
  REQUIRE(f.cache.pin(segments({4}), third));
  // Everything is pinned: refused, with nothing changed.
  CHECK_FALSE(f.use({5}));
  CHECK_FALSE(f.use({1, 5}));
  CHECK(f.cache.mapped_pages() == 3);
  f.cache.unpin(third);
  f.cache.age();
  CHECK(f.use({5}));
  CHECK(f.grants.is_mapped(1));
  CHECK(f.grants.is_mapped(2));
  f.cache.unpin(pages);
}

TEST_CASE("persistent cache: a request never evicts the pages it needs itself") {
  Fixture f(4);
  CHECK(f.use({1}));
  CHECK(f.use({2}));
  CHECK(f.use({3, 4}));
  f.cache.age();
  // 1 is the oldest, but pinned by this very request; 2 has to go.
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
  std::array<PersistentCache::Page, 2> pages;
  REQUIRE(theirs.pin(segments({1, 2}), pages));
  theirs.unpin(pages);
  REQUIRE(mine.pin(segments({11, 12}), pages));
  mine.unpin(pages);
  mine.age();
  theirs.age();
  std::array<PersistentCache::Page, 2> more;
  REQUIRE(mine.pin(segments({13, 14}), more));
  CHECK(theirs.mapped_pages() == 2);
  CHECK(mine.mapped_pages() == 2);
  CHECK(grants.unmapped == std::set<GrantRef>{11, 12});
  std::array<PersistentCache::Page, 1> one;
  CHECK_FALSE(mine.pin(segments({15}), one));
  CHECK(budget.used() == 4);
  mine.unpin(more);
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
    std::vector<PersistentCache::Page> pages(200);
    std::vector<GrantRef> grefs(200);
    for (GrantRef i = 0; i < 200; i++) grefs[i] = i * 4096;
    REQUIRE(cache.pin(segments(grefs), pages));
    cache.unpin(pages);
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
  struct Held {
    std::vector<GrantRef> grefs;
    std::vector<PersistentCache::Page> pages;
  };
  std::vector<Held> held;
  for (int step = 0; step < 30000; step++) {
    if (step % 10 == 0) f.cache.age();
    if (held.size() >= 3 || (!held.empty() && random() % 3 == 0)) {
      const size_t victim = random() % held.size();
      f.cache.unpin(held[victim].pages);
      held.erase(held.begin() + static_cast<long>(victim));
      continue;
    }
    Held request;
    for (size_t count = 1 + random() % 12; count > 0; count--) {
      const GrantRef low = random() % 4;
      request.grefs.push_back(low + (random() % 24) * (1u << (random() % 2 == 0 ? 10 : 20)));
    }
    f.grants.refused = random() % 10 == 0 ? std::set{request.grefs[0]} : std::set<GrantRef>{};
    request.pages.resize(request.grefs.size());
    if (!f.cache.pin(segments(request.grefs), request.pages)) continue;
    // What is pinned is mapped, one address per grant.
    for (size_t i = 0; i < request.grefs.size(); i++) {
      REQUIRE(f.grants.is_mapped(request.grefs[i]));
      for (size_t j = 0; j < i; j++)
        REQUIRE((request.grefs[i] == request.grefs[j]) ==
                (request.pages[i].address == request.pages[j].address));
    }
    held.push_back(std::move(request));
    for (const Held& one : held)
      for (const GrantRef gref : one.grefs) REQUIRE(f.grants.is_mapped(gref));
    REQUIRE(f.cache.mapped_pages() == f.grants.mapped_pages);
    REQUIRE(f.cache.mapped_pages() <= kPagesMax);
    REQUIRE(f.budget.used() == f.cache.mapped_pages());
    REQUIRE(f.budget.used() <= 40);
  }
  for (const Held& one : held) f.cache.unpin(one.pages);
  CHECK(f.cache.unmaps() > 1000);
}

}  // namespace
}  // namespace ringdisk
