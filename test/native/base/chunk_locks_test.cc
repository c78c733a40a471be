// SPDX-License-Identifier: Apache-2.0
#include "base/chunk_locks.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace ringdisk {
namespace {

struct TestHold final : ChunkLocks::Hold {
  TestHold() = default;
  TestHold(uint64_t from, uint64_t to, bool with_others = false) {
    first = from;
    end = to;
    shared = with_others;
  }
  void granted() override { told++; }
  std::atomic<int> told{0};
};

TEST_CASE("chunk locks: what does not overlap is held at once") {
  ChunkLocks locks;
  TestHold one(0, 4);
  TestHold two(4, 8);
  CHECK(locks.acquire(one));
  CHECK(locks.acquire(two));
  locks.release(one);
  locks.release(two);
}

TEST_CASE("chunk locks: who came first is served first, and nobody is overtaken") {
  ChunkLocks locks;
  TestHold one(0, 4);
  TestHold wide(2, 10);
  TestHold behind(8, 9);  // free, but somebody waits for it already
  REQUIRE(locks.acquire(one));
  CHECK_FALSE(locks.acquire(wide));
  CHECK_FALSE(locks.acquire(behind));
  locks.release(one);
  CHECK(wide.told == 1);
  CHECK(behind.told == 0);
  locks.release(wide);
  CHECK(behind.told == 1);
  locks.release(behind);
}

TEST_CASE("chunk locks: shared holds are held together, and wait for one that is not") {
  ChunkLocks locks;
  TestHold one(0, 4, true);
  TestHold two(2, 6, true);
  TestHold alone(3, 4);
  TestHold late(0, 4, true);
  CHECK(locks.acquire(one));
  CHECK(locks.acquire(two));
  CHECK_FALSE(locks.acquire(alone));
  CHECK_FALSE(locks.acquire(late));
  locks.release(two);
  CHECK(alone.told == 0);
  locks.release(one);
  CHECK(alone.told == 1);
  CHECK(late.told == 0);
  locks.release(alone);
  CHECK(late.told == 1);
  locks.release(late);
}

TEST_CASE("chunk locks: one that is let go of frees all that waited for it alone") {
  ChunkLocks locks;
  TestHold all(0, 100);
  std::array<TestHold, 10> each;
  REQUIRE(locks.acquire(all));
  for (size_t i = 0; i < each.size(); i++) {
    each[i].first = i * 10;
    each[i].end = i * 10 + 10;
    CHECK_FALSE(locks.acquire(each[i]));
  }
  locks.release(all);
  for (TestHold& one : each) {
    CHECK(one.told == 1);
    locks.release(one);
  }
}

// Each thread counts on being alone in its chunks.
TEST_CASE("chunk locks: threads exclude each other") {
  constexpr int kRounds = 2000;
  ChunkLocks locks;
  std::array<std::atomic<int>, 8> inside{};
  std::atomic<int> met{0};
  const auto work = [&](unsigned seed) {
    std::minstd_rand random(seed);
    for (int round = 0; round < kRounds; round++) {
      TestHold hold;
      hold.first = random() % inside.size();
      hold.end = hold.first + 1 + random() % (inside.size() - hold.first);
      if (!locks.acquire(hold))
        while (hold.told == 0) std::this_thread::yield();
      for (uint64_t at = hold.first; at < hold.end; at++) met += inside[at]++;
      for (uint64_t at = hold.first; at < hold.end; at++) inside[at]--;
      locks.release(hold);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i <= 3; i++) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  CHECK(met == 0);
}

}  // namespace
}  // namespace ringdisk
