// SPDX-License-Identifier: Apache-2.0
#include "request/limits.h"

#include <algorithm>

#include "base/units.h"
#include "protocol/limits.h"

namespace ringdisk {

static_assert(kRequestBytesMax <= TokenBucket::kAmountMax);

void Limits::set(const LimitRates& rates, uint64_t now_ns) {
  operations_.set(rates.operations, rates.operations_burst, now_ns);
  bytes_.set(rates.bytes, rates.bytes_burst, now_ns);
}

uint64_t Limits::take(const ValidRequest& request, uint64_t now_ns) {
  const bool writes = is_write(request.kind);
  const uint64_t at = operations_.take(writes, 1, now_ns);
  const bool moves_data =
      request.kind != ValidRequest::Kind::discard && request.kind != ValidRequest::Kind::map;
  const uint64_t bytes = moves_data ? request.sector_count * kSectorBytes : 0;
  return bytes == 0 ? at : std::max(at, bytes_.take(writes, bytes, now_ns));
}

void Limits::Buckets::set(const LimitRates::PerSecond& rates, uint64_t burst, uint64_t now_ns) {
  const auto set_one = [&](TokenBucket& bucket, uint64_t per_second) {
    bucket.set(per_second, burst != 0 ? burst : std::max<uint64_t>(per_second / 10, 1), now_ns);
  };
  set_one(both, rates.both);
  set_one(reads, rates.reads);
  set_one(writes, rates.writes);
}

uint64_t Limits::Buckets::take(bool is_write, uint64_t amount, uint64_t now_ns) {
  const uint64_t at = both.take(amount, now_ns);
  return std::max(at, (is_write ? writes : reads).take(amount, now_ns));
}

}  // namespace ringdisk
