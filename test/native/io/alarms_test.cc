// SPDX-License-Identifier: Apache-2.0
#include "io/alarms.h"

#include <doctest/doctest.h>

#include <vector>

namespace ringdisk {
namespace {

struct Clock final : Alarm {
  Alarms& alarms;
  std::vector<uint64_t> rung{};
  uint64_t again_at = 0;  // when called: sets itself for then
  Alarm* cancels = nullptr;

  explicit Clock(Alarms& of) : alarms(of) {}
  void on_alarm(uint64_t now_us) override {
    rung.push_back(now_us);
    if (again_at != 0) alarms.set(*this, again_at);
    if (cancels) alarms.cancel(*cancels);
  }
};

struct Fixture {
  std::vector<uint64_t> wanted;  // times at which to be woken
  Alarms alarms{[this](uint64_t at_us) { wanted.push_back(at_us); }};
};

TEST_CASE("alarms: each rings once, when its time has come") {
  Fixture fixture;
  Clock early(fixture.alarms), late(fixture.alarms);
  fixture.alarms.set(late, 200);
  fixture.alarms.set(early, 100);
  CHECK(fixture.wanted == std::vector<uint64_t>{200, 100});
  fixture.alarms.run(99);
  CHECK(early.rung.empty());
  fixture.alarms.run(100);
  CHECK(early.rung == std::vector<uint64_t>{100});
  CHECK_FALSE(early.is_set());
  CHECK(late.is_set());
  CHECK(fixture.wanted.back() == 200);  // for the one that is left
  fixture.alarms.run(250);
  CHECK(late.rung == std::vector<uint64_t>{250});
  fixture.wanted.clear();
  fixture.alarms.run(1000);
  CHECK(early.rung.size() + late.rung.size() == 2);
  CHECK(fixture.wanted.empty());
}

TEST_CASE("alarms: set anew, the last time counts") {
  Fixture fixture;
  Clock clock(fixture.alarms);
  fixture.alarms.set(clock, 100);
  fixture.alarms.set(clock, 300);
  fixture.alarms.run(200);
  CHECK(clock.rung.empty());
  fixture.alarms.run(300);
  CHECK(clock.rung.size() == 1);
}

TEST_CASE("alarms: one that is called may set itself and cancel others") {
  Fixture fixture;
  Clock first(fixture.alarms), second(fixture.alarms);
  first.again_at = 150;
  first.cancels = &second;
  fixture.alarms.set(first, 100);
  fixture.alarms.set(second, 100);
  fixture.alarms.run(100);
  CHECK(first.rung.size() == 1);
  CHECK(second.rung.empty());
  fixture.alarms.run(150);
  CHECK(first.rung.size() == 2);
  first.again_at = 0;
  fixture.alarms.cancel(first);
  fixture.alarms.cancel(first);
  fixture.alarms.run(1000);
  CHECK(first.rung.size() == 2);
}

TEST_CASE("alarms: one that sets itself for a time that has come does not ring for ever") {
  Fixture fixture;
  Clock clock(fixture.alarms);
  clock.again_at = 1;
  fixture.alarms.set(clock, 100);
  fixture.alarms.run(100);
  CHECK(clock.rung.size() == 1);
  CHECK(clock.is_set());
}

}  // namespace
}  // namespace ringdisk
