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

Limits::Amount Limits::amount_of(const ValidRequest& request) {
  const bool moves_data =
      request.kind != ValidRequest::Kind::discard && request.kind != ValidRequest::Kind::map;
  return {.is_write = is_write(request.kind),
          .operations = 1,
          .bytes = moves_data ? request.sector_count * kSectorBytes : 0};
}

uint64_t Limits::take(const ValidRequest& request, uint64_t now_ns) {
  if (group_) return group_->take(request, now_ns);
  const Amount amount = amount_of(request);
  const uint64_t at = operations_.take(amount.is_write, amount.operations, now_ns);
  if (amount.bytes == 0) return at;
  return std::max(at, bytes_.take(amount.is_write, amount.bytes, now_ns));
}

bool Limits::has(const Amount& amount, uint64_t now_ns) const {
  return operations_.has(amount.is_write, amount.operations, now_ns) &&
         bytes_.has(amount.is_write, amount.bytes, now_ns);
}

uint64_t Limits::cost_of(const Amount& amount) const {
  return std::max(operations_.cost_of(amount.is_write, amount.operations),
                  bytes_.cost_of(amount.is_write, amount.bytes));
}

void Limits::begin_to_wait() {
  if (!group_ || waiting_.fetch_add(1, std::memory_order_relaxed) != 0) return;
  group_->waiting_weight_.fetch_add(weight_, std::memory_order_relaxed);
}

void Limits::end_to_wait() {
  if (!group_ || waiting_.fetch_sub(1, std::memory_order_relaxed) != 1) return;
  group_->waiting_weight_.fetch_sub(weight_, std::memory_order_relaxed);
}

// Its clock goes slower than the group's by the part that is its own. It may be behind for a
// moment, so that who wakes late catches up, and ahead by some requests: what was had while there
// were tokens for all is not held against it for long.
uint64_t Limits::turn(const ValidRequest& request, uint64_t now_ns) {
  constexpr uint64_t kBehind = TokenBucket::kUnitsPerSecond / 10;
  constexpr uint64_t kAheadRequests = 64;
  if (!group_) return 0;
  const double mine = weight_;
  const auto all = static_cast<double>(group_->waiting_weight_.load(std::memory_order_relaxed));
  if (all <= mine) return 0;
  const Amount amount = amount_of(request);
  const auto cost =
      static_cast<uint64_t>(static_cast<double>(group_->cost_of(amount)) * all / mine);
  const uint64_t now = now_ns * TokenBucket::kUnitsPerNs;
  uint64_t next = next_turn_.load(std::memory_order_relaxed);
  uint64_t from;
  do {
    from = std::clamp(next, now - kBehind, now + kBehind + kAheadRequests * cost);
  } while (!next_turn_.compare_exchange_weak(next, from + cost, std::memory_order_relaxed));
  if (group_->has(amount, now_ns)) return 0;
  return from / TokenBucket::kUnitsPerNs;
}

void Limits::Buckets::set(const LimitRates::PerSecond& rates, uint64_t burst, uint64_t now_ns) {
  const auto set_one = [&](TokenBucket& bucket, uint64_t per_second) {
    bucket.set(per_second, burst != 0 ? burst : std::max<uint64_t>(per_second / 10, 1), now_ns);
  };
  set_one(both, rates.both);
  set_one(reads, rates.reads);
  set_one(writes, rates.writes);
}

bool Limits::Buckets::has(bool is_write, uint64_t amount, uint64_t now_ns) const {
  return both.has(amount, now_ns) && (is_write ? writes : reads).has(amount, now_ns);
}

uint64_t Limits::Buckets::cost_of(bool is_write, uint64_t amount) const {
  return std::max(both.cost_of(amount), (is_write ? writes : reads).cost_of(amount));
}

uint64_t Limits::Buckets::take(bool is_write, uint64_t amount, uint64_t now_ns) {
  const uint64_t at = both.take(amount, now_ns);
  return std::max(at, (is_write ? writes : reads).take(amount, now_ns));
}

}  // namespace ringdisk
