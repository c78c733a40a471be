// SPDX-License-Identifier: Apache-2.0
#include "metrics/latency_histogram.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

namespace ringdisk {
namespace {

TEST_CASE("every value lies in its bucket, and buckets meet without gaps") {
  for (size_t bucket = 0; bucket < LatencyHistogram::kBucketCount; bucket++) {
    const uint64_t end = LatencyHistogram::bucket_end(bucket);
    CHECK(LatencyHistogram::bucket_of(end) == bucket);
    if (bucket + 1 < LatencyHistogram::kBucketCount) {
      CHECK(LatencyHistogram::bucket_of(end + 1) == bucket + 1);
    }
  }
}

TEST_CASE("an empty histogram is all zeroes") {
  const LatencyHistogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.min_us() == 0);
  CHECK(histogram.max_us() == 0);
  CHECK(histogram.percentile_us(0.5) == 0);
}

TEST_CASE("one value is every percentile") {
  LatencyHistogram histogram;
  histogram.record(123'456);
  for (const double fraction : {0.0, 0.5, 0.999, 1.0}) {
    CHECK(histogram.percentile_us(fraction) == doctest::Approx(123.456));
  }
  CHECK(histogram.min_us() == doctest::Approx(123.456));
}

TEST_CASE("percentiles are never below the exact ones and at most 1/32 above") {
  std::mt19937_64 random(42);
  std::lognormal_distribution<double> latency(11, 1.5);
  std::vector<uint64_t> values(20'000);
  LatencyHistogram histogram;
  for (uint64_t& value : values) {
    value = static_cast<uint64_t>(latency(random));
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.5, 0.9, 0.99, 0.999}) {
    const auto rank = static_cast<size_t>(fraction * static_cast<double>(values.size()));
    const double exact = static_cast<double>(values[rank - 1]) / 1e3;
    CHECK(histogram.percentile_us(fraction) >= exact);
    CHECK(histogram.percentile_us(fraction) <= exact * (1 + 1.0 / 32) + 0.001);
  }
}

TEST_CASE("merging equals recording everything in one") {
  LatencyHistogram both;
  LatencyHistogram low;
  LatencyHistogram high;
  for (uint64_t i = 1; i <= 1000; i++) {
    both.record(i * 10);
    both.record(i * 1000);
    low.record(i * 10);
    high.record(i * 1000);
  }
  low.merge(high);
  CHECK(low.count() == both.count());
  CHECK(low.min_us() == both.min_us());
  CHECK(low.max_us() == both.max_us());
  for (const double fraction : {0.1, 0.5, 0.9, 0.99}) {
    CHECK(low.percentile_us(fraction) == both.percentile_us(fraction));
  }
  low.merge(LatencyHistogram());
  CHECK(low.min_us() == both.min_us());
}

TEST_CASE("what takes longer than the range counts as its end") {
  LatencyHistogram histogram;
  histogram.record(UINT64_MAX);
  CHECK(histogram.count() == 1);
  CHECK(histogram.max_us() == doctest::Approx(1.0995e9).epsilon(0.001));
}

TEST_CASE("may be read while it is written") {
  LatencyHistogram histogram;
  std::thread writer([&] {
    for (uint64_t i = 0; i < 100'000; i++) histogram.record(i);
  });
  for (int i = 0; i < 100; i++) {
    LatencyHistogram copy;
    copy.merge(histogram);
    CHECK(copy.percentile_us(1.0) <= 100);
  }
  writer.join();
  CHECK(histogram.count() == 100'000);
}

}  // namespace
}  // namespace ringdisk
