// SPDX-License-Identifier: Apache-2.0
// Filters that come and go while a guest works on all its queues.
#include "engine/exchange.h"

#include <doctest/doctest.h>

#include <atomic>
#include <system_error>

#include "engine_guest.h"
#include "engine_results.h"
#include "eventually.h"
#include "needs_uring.h"
#include "watching_filter.h"

namespace ringdisk {
namespace {

using Fixture = EngineGuest;

TEST_CASE("exchange: filters come and go while a guest works, and it notices nothing") {
  if (!has_io_uring()) return;
  Watched below, above;
  {
    Fixture fixture;
    Work work(fixture.guest);
    // The first stays and sees by which way everything comes.
    REQUIRE(fixture.exchange(put_watching(1, below)) == 0);
    CHECK(below.filters == 4);
    for (int i = 0; i < 50; i++) {
      const uint64_t before = above.started;
      REQUIRE(fixture.exchange(put_watching(2, above)) == 0);
      REQUIRE(eventually([&] { return above.started > before; }));
      REQUIRE(fixture.exchange(remove_filter(2)) == 0);
      const uint64_t seen = above.started;
      const uint64_t passed = below.started;
      REQUIRE(eventually([&] { return below.started > passed + 10; }));
      CHECK(above.started == seen);
    }
    REQUIRE(eventually([&] { return work.rounds > 0; }));
    work.end();
    CHECK(work.wrong == 0);
    CHECK(below.both_ways == 0);
    CHECK(above.in_flight == 0);
    // One in the middle goes as well.
    REQUIRE(fixture.exchange(put_watching(3, above)) == 0);
    REQUIRE(fixture.exchange(remove_filter(1)) == 0);
    REQUIRE(fixture.exchange(remove_filter(3)) == 0);
    CHECK(fixture.exchange(remove_filter(3)) == ENOENT);
  }
  CHECK(below.filters == 0);
  CHECK(above.filters == 0);
}

TEST_CASE("exchange: if one queue's filter can't be had, no queue gets one") {
  if (!has_io_uring()) return;
  Watched watched;
  Fixture fixture;
  Work work(fixture.guest);
  std::atomic<int> made{0};
  const StackChange half{.make = [&](const ChannelContext& context) {
    if (++made == 3) throw std::system_error(EMFILE, std::generic_category());
    return std::make_unique<WatchingFilter>(1, watched, context);
  }};
  CHECK(fixture.exchange(half) == EMFILE);
  CHECK(watched.filters == 0);
  CHECK(watched.started == 0);
  CHECK(fixture.exchange(put_watching(1, watched)) == 0);
  REQUIRE(eventually([&] { return watched.started > 0; }));
  work.end();
  CHECK(work.wrong == 0);
}

TEST_CASE("exchange: a disconnect waits for its end") {
  if (!has_io_uring()) return;
  for (int i = 0; i < 20; i++) {
    Watched watched;
    {
      Fixture fixture;
      fixture.engine.exchange(6, fixture.vbd, put_watching(1, watched));
      fixture.engine.exchange(7, fixture.vbd, put_watching(2, watched));
      CHECK(fixture.result_of(7).error == EBUSY);
      fixture.disconnect();
    }
    CHECK(watched.filters == 0);
  }
}

}  // namespace
}  // namespace ringdisk
