// SPDX-License-Identifier: Apache-2.0
// A token bucket that threads share without a lock: the generic cell rate algorithm. All it is is
// one time, when it will be full again. Who takes tokens moves that time on by what they cost and
// is told when it may go; it need not ask again. So takers go in the order in which they came, and
// one that wakes late loses nothing as long as the bucket is not full by then.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace ringdisk {

class TokenBucket {
 public:
  // The clock's nanoseconds, sixteenths of them within: a token of the highest rates costs a few
  // nanoseconds only, and an error of half a unit is then below a thousandth.
  static constexpr uint64_t kUnitsPerNs = 16;
  static constexpr uint64_t kUnitsPerSecond = kUnitsPerNs * 1'000'000'000;
  // Of one take(); with it no product overflows.
  static constexpr uint64_t kAmountMax = uint64_t{1} << 26;

  // Tokens a second, 0 for no limit, and how many of them it holds. What it lacked before it lacks
  // after that, by proportion; a debt is forgiven. While others take: each of them goes by some mix
  // of the old and the new, once.
  void set(uint64_t per_second, uint64_t burst, uint64_t now_ns) {
    const uint64_t now = now_ns * kUnitsPerNs;
    const uint64_t depth = per_second == 0 ? 0 : depth_of(per_second, burst);
    const uint64_t before = depth_.load(std::memory_order_relaxed);
    const uint64_t full_at = full_at_.load(std::memory_order_relaxed);
    const uint64_t lacks = full_at > now ? std::min(full_at - now, before) : 0;
    const double part = before == 0 ? 0 : static_cast<double>(lacks) / static_cast<double>(before);
    per_second_.store(per_second, std::memory_order_relaxed);
    depth_.store(depth, std::memory_order_relaxed);
    full_at_.store(now + static_cast<uint64_t>(part * static_cast<double>(depth)),
                   std::memory_order_relaxed);
  }

  // What so many take of the bucket, in time's units; 0: there is no limit.
  uint64_t cost_of(uint64_t amount) const {
    const uint64_t per_second = per_second_.load(std::memory_order_relaxed);
    return per_second == 0 ? 0 : cost_of(amount, per_second);
  }
  // Whether whoever took so many now could go now.
  bool has(uint64_t amount, uint64_t now_ns) const {
    const uint64_t cost = cost_of(amount);
    const uint64_t now = now_ns * kUnitsPerNs;
    const uint64_t from = std::max(full_at_.load(std::memory_order_relaxed), now);
    return cost == 0 || when(from, cost) <= now_ns;
  }

  // When whoever takes so many may go, in the clock's nanoseconds; at once where that has passed.
  // More than the bucket holds is had when it is full, and leaves a debt.
  uint64_t take(uint64_t amount, uint64_t now_ns) {
    const uint64_t per_second = per_second_.load(std::memory_order_relaxed);
    if (per_second == 0) return 0;
    const uint64_t now = now_ns * kUnitsPerNs;
    const uint64_t cost = cost_of(amount, per_second);
    uint64_t full_at = full_at_.load(std::memory_order_relaxed);
    uint64_t from;
    do {
      from = std::max(full_at, now);
    } while (!full_at_.compare_exchange_weak(full_at, from + cost, std::memory_order_relaxed));
    return when(from, cost);
  }

 private:
  static uint64_t cost_of(uint64_t amount, uint64_t per_second) {
    return (amount * kUnitsPerSecond + per_second / 2) / per_second;
  }
  uint64_t when(uint64_t from, uint64_t cost) const {
    const uint64_t depth = depth_.load(std::memory_order_relaxed);
    const uint64_t credit = depth > cost ? depth - cost : 0;
    return from > credit ? (from - credit + kUnitsPerNs - 1) / kUnitsPerNs : 0;
  }
  // In time: how long it takes to fill. An hour at most, so that nothing overflows.
  static uint64_t depth_of(uint64_t per_second, uint64_t burst) {
    constexpr uint64_t kSecondsMax = 3600;
    const uint64_t seconds = burst / per_second;
    if (seconds >= kSecondsMax) return kSecondsMax * kUnitsPerSecond;
    const double rest = static_cast<double>(burst % per_second) / static_cast<double>(per_second);
    return seconds * kUnitsPerSecond +
           static_cast<uint64_t>(rest * static_cast<double>(kUnitsPerSecond));
  }

  std::atomic<uint64_t> per_second_{0};
  std::atomic<uint64_t> depth_{0};
  std::atomic<uint64_t> full_at_{0};
};

}  // namespace ringdisk
