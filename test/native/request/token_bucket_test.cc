// SPDX-License-Identifier: Apache-2.0
#include "request/token_bucket.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

namespace ringdisk {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 12'345'678 * kSecond;

struct Bucket : TokenBucket {
  Bucket(uint64_t per_second, uint64_t burst) { set(per_second, burst, kStart); }
};

TEST_CASE("token bucket: without a limit everybody goes at once") {
  TokenBucket bucket;
  for (int i = 0; i < 100; i++) CHECK(bucket.take(1u << 20, kStart) == 0);
}

TEST_CASE("token bucket: a burst goes at once, then one at a time") {
  Bucket bucket(100, 5);
  for (int i = 0; i < 5; i++) CHECK(bucket.take(1, kStart) <= kStart);
  for (uint64_t i = 1; i < 1000; i++) CHECK(bucket.take(1, kStart) == kStart + i * kSecond / 100);
}

TEST_CASE("token bucket: what was not used is there later, but no more than it holds") {
  Bucket bucket(100, 5);
  for (int i = 0; i < 5; i++) bucket.take(1, kStart);
  uint64_t now = kStart + 2 * kSecond / 100;
  CHECK(bucket.take(1, now) <= now);
  CHECK(bucket.take(1, now) <= now);
  CHECK(bucket.take(1, now) > now);
  now += 1000 * kSecond;
  for (int i = 0; i < 5; i++) CHECK(bucket.take(1, now) <= now);
  CHECK(bucket.take(1, now) == now + kSecond / 100);
}

TEST_CASE("token bucket: more than it holds is had when it is full, and leaves a debt") {
  Bucket bucket(1000, 100);
  CHECK(bucket.take(5000, kStart) <= kStart);
  CHECK(bucket.take(1, kStart) == kStart + 5 * kSecond - 99 * kSecond / 1000);
  Bucket used(1000, 100);
  used.take(1, kStart);
  CHECK(used.take(5000, kStart) == kStart + kSecond / 1000);
}

// Whoever asks when: in no time from when the bucket is made does more go than it holds and gets,
// but for one that is larger than the bucket.
TEST_CASE("token bucket: property: never more than burst and rate allow") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; round++) {
    const uint64_t rate = uint64_t{1} << (random() % 34);
    const uint64_t burst = 1 + random() % (2 * rate);
    Bucket bucket(rate, burst);
    uint64_t now = kStart;
    uint64_t taken = 0;
    uint64_t largest = 0;
    for (int i = 0; i < 200; i++) {
      const uint64_t amount = 1 + random() % std::min<uint64_t>(1u << 20, 2 * burst);
      largest = std::max(largest, amount);
      const uint64_t at = bucket.take(amount, now);
      // It goes at that time, or some time later.
      now = std::max(now, at);
      if (random() % 3 == 0) now += random() % kSecond;
      taken += amount;
      const double seconds = static_cast<double>(now - kStart) / 1e9;
      const double allowed =
          static_cast<double>(burst + largest) + seconds * static_cast<double>(rate);
      REQUIRE(static_cast<double>(taken) <= allowed * 1.001 + 1);
    }
  }
}

// Somebody always wants more, and wakes late by up to half of what the bucket holds.
TEST_CASE("token bucket: property: who wants all gets all, also when it wakes late") {
  std::mt19937_64 random(8);
  for (int round = 0; round < 200; round++) {
    const uint64_t rate = 10 + random() % 10'000'000;
    const uint64_t burst = std::max<uint64_t>(rate / 10, 2);
    Bucket bucket(rate, burst);
    const uint64_t late = burst * kSecond / rate / 2;
    uint64_t now = kStart;
    uint64_t taken = 0;
    while (now < kStart + 10 * kSecond) {
      const uint64_t amount = 1 + random() % (burst / 2);
      taken += amount;
      const uint64_t at = bucket.take(amount, now);
      if (at > now) now = at + random() % late;
    }
    const double seconds = static_cast<double>(now - kStart) / 1e9;
    const double got = static_cast<double>(taken) / static_cast<double>(rate) / seconds;
    CHECK(got > 0.995);
    CHECK(got < 1.115);  // ten seconds, the burst at the start and what was taken in advance
  }
}

TEST_CASE(
    "token bucket: threads that take at once get times of their own, in all exactly the rate") {
  constexpr int kThreads = 4;
  constexpr int kTakes = 20'000;
  Bucket bucket(1'000'000, 1);
  std::vector<std::vector<uint64_t>> times(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : times)
    threads.emplace_back([&bucket, &mine] {
      for (int i = 0; i < kTakes; i++) mine.push_back(bucket.take(1, kStart));
    });
  for (std::thread& thread : threads) thread.join();
  std::vector<uint64_t> all;
  for (const auto& mine : times) {
    CHECK(std::ranges::is_sorted(mine));
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::ranges::sort(all);
  for (size_t i = 0; i < all.size(); i++) REQUIRE(all[i] == kStart + i * 1000);
}

TEST_CASE("token bucket: another rate holds at once; what it lacked it lacks, a debt is forgiven") {
  Bucket bucket(1, 1);
  bucket.take(1000, kStart);  // a quarter of an hour's worth
  bucket.set(1000, 100, kStart);
  CHECK(bucket.take(1, kStart) == kStart + kSecond / 1000);
  Bucket full(1, 1);
  full.set(1000, 100, kStart);
  for (int i = 0; i < 100; i++) CHECK(full.take(1, kStart) <= kStart);
  CHECK(full.take(1, kStart) > kStart);
  full.set(0, 0, kStart);
  CHECK(full.take(1u << 20, kStart) == 0);
  // None before: it begins full.
  full.set(10, 10, kStart);
  CHECK(full.take(10, kStart) <= kStart);
  CHECK(full.take(10, kStart) > kStart);
}

TEST_CASE("token bucket: the largest figures do not overflow, nor does an early clock") {
  TokenBucket bucket;
  bucket.set(1, UINT64_MAX, 5);
  CHECK(bucket.take(TokenBucket::kAmountMax, 5) <= 5);
  bucket.set(UINT64_MAX, UINT64_MAX, 5);
  CHECK(bucket.take(TokenBucket::kAmountMax, 5) <= 5);
  bucket.set(1, 1, UINT64_MAX / TokenBucket::kUnitsPerNs / 2);
  bucket.take(TokenBucket::kAmountMax, UINT64_MAX / TokenBucket::kUnitsPerNs / 2);
  CHECK(bucket.take(1, 0) > UINT64_MAX / TokenBucket::kUnitsPerNs / 2);
}

}  // namespace
}  // namespace ringdisk
