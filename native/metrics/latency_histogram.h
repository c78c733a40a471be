// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ringdisk {

// Counts latencies in log-linear buckets: exact below 32 ns, then 32 equal buckets per power of
// two, so a percentile is at most 1/32 too high. One thread records; any thread may read or merge
// from it meanwhile and sees each count as it was at some moment.
class LatencyHistogram {
 public:
  static constexpr uint32_t kSubBucketBits = 5;
  static constexpr size_t kSubBuckets = size_t{1} << kSubBucketBits;
  static constexpr uint32_t kValueBits = 40;  // 18 minutes; what takes longer counts as that
  static constexpr size_t kBucketCount = (kValueBits - kSubBucketBits + 1) * kSubBuckets;

  void record(uint64_t nanoseconds);
  // Adds what `other` holds; only on the thread that records here.
  void merge(const LatencyHistogram& other);

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  // How many lie in one bucket.
  uint64_t count_in(size_t bucket) const {
    return buckets_[bucket].load(std::memory_order_relaxed);
  }
  // All latencies together, in microseconds.
  double sum_us() const { return to_us(sum_.load(std::memory_order_relaxed)); }
  // All in microseconds; 0 while nothing is recorded.
  double min_us() const;
  double max_us() const { return to_us(max_.load(std::memory_order_relaxed)); }
  // The smallest latency that at least `fraction` (0 to 1) of all recorded ones do not exceed,
  // rounded up to the end of its bucket but never above max_us().
  double percentile_us(double fraction) const;

  // The bucket of a value and the largest value in a bucket.
  static constexpr size_t bucket_of(uint64_t value) {
    if (value < kSubBuckets) return value;
    const uint32_t shift = static_cast<uint32_t>(std::bit_width(value)) - kSubBucketBits - 1;
    return shift * kSubBuckets + (value >> shift);
  }
  static constexpr uint64_t bucket_end(size_t bucket) {
    if (bucket < 2 * kSubBuckets) return bucket;
    const uint64_t shift = bucket / kSubBuckets - 1;
    const uint64_t sub_bucket = bucket - shift * kSubBuckets;
    return ((sub_bucket + 1) << shift) - 1;
  }

 private:
  using Counter = std::atomic<uint64_t>;
  // A plain load and store: with a single writer no read-modify-write cycle is needed.
  static void add(Counter& counter, uint64_t amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void widen(uint64_t low, uint64_t high);
  static double to_us(uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

  std::array<Counter, kBucketCount> buckets_{};
  Counter count_{0};
  Counter sum_{0};
  Counter min_{UINT64_MAX};
  Counter max_{0};
};

}  // namespace ringdisk
