// SPDX-License-Identifier: Apache-2.0
#include "metrics/latency_histogram.h"

#include <algorithm>
#include <cmath>

namespace ringdisk {

static_assert(LatencyHistogram::bucket_of((uint64_t{1} << LatencyHistogram::kValueBits) - 1) ==
              LatencyHistogram::kBucketCount - 1);

void LatencyHistogram::record(uint64_t nanoseconds) {
  const uint64_t value = std::min(nanoseconds, (uint64_t{1} << kValueBits) - 1);
  add(buckets_[bucket_of(value)], 1);
  add(count_, 1);
  add(sum_, value);
  widen(value, value);
}

void LatencyHistogram::merge(const LatencyHistogram& other) {
  // The total is what was added here, so that it agrees with the buckets even while `other` grows.
  uint64_t added = 0;
  for (size_t i = 0; i < kBucketCount; i++) {
    const uint64_t amount = other.buckets_[i].load(std::memory_order_relaxed);
    if (amount > 0) add(buckets_[i], amount);
    added += amount;
  }
  add(count_, added);
  add(sum_, other.sum_.load(std::memory_order_relaxed));
  widen(other.min_.load(std::memory_order_relaxed), other.max_.load(std::memory_order_relaxed));
}

void LatencyHistogram::widen(uint64_t low, uint64_t high) {
  if (low < min_.load(std::memory_order_relaxed)) min_.store(low, std::memory_order_relaxed);
  if (high > max_.load(std::memory_order_relaxed)) max_.store(high, std::memory_order_relaxed);
}

double LatencyHistogram::min_us() const {
  const uint64_t low = min_.load(std::memory_order_relaxed);
  return low == UINT64_MAX ? 0 : to_us(low);
}

double LatencyHistogram::percentile_us(double fraction) const {
  const auto wanted = static_cast<uint64_t>(
      std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count())));
  const uint64_t needed = std::max<uint64_t>(wanted, 1);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBucketCount; i++) {
    seen += buckets_[i].load(std::memory_order_relaxed);
    if (seen >= needed) return std::min(to_us(bucket_end(i)), max_us());
  }
  return max_us();
}

}  // namespace ringdisk
