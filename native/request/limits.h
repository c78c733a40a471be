// SPDX-License-Identifier: Apache-2.0
// What a disk may ask a second, or several disks together: the buckets that all their queues share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "protocol/valid_request.h"
#include "request/token_bucket.h"

namespace ringdisk {

// 0: no limit; bursts: a tenth of a second's worth.
struct LimitRates {
  struct PerSecond {
    uint64_t both = 0, reads = 0, writes = 0;
  };
  PerSecond operations{};
  PerSecond bytes{};
  uint64_t operations_burst = 0;  // of each of the three
  uint64_t bytes_burst = 0;
};

inline constexpr uint32_t kWeightMax = 1000;

// A disk of a group has limits of its own that say nothing but its weight: the group's are the
// figures. While others of the group wait, too, it goes as often as its weight has it, in one clock
// for all of its queues; what one does not use the others have. Nobody is held back by that while
// the group's buckets have tokens.
//
// Any thread, but for set(): that is for one at a time.
class Limits {
 public:
  Limits() = default;
  Limits(std::shared_ptr<Limits> group, uint32_t weight)
      : group_(std::move(group)), weight_(weight) {}
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

  // Its own figures, or its group's.
  bool is_of(const Limits& limits) const { return this == &limits || group_.get() == &limits; }
  bool is_group() const { return group_ == nullptr; }
  bool is_share(const std::shared_ptr<Limits>& group, uint32_t weight) const {
    return group_ == group && weight_ == weight;
  }
  // A queue of this disk has requests that wait, and has none any more.
  void begin_to_wait();
  void end_to_wait();
  // First of the two: when it is the disk's turn within its group; at once where that has passed.
  uint64_t turn(const ValidRequest& request, uint64_t now_ns);
  // While queues use it: tell them by RequestEngine::limits_changed().
  void set(const LimitRates& rates, uint64_t now_ns);

  // Whether it ever waits. A flush does not: it brings nothing of its own to the medium, one of the
  // medium's serves all that wait for it, and to hold it back is to hold an fsync back.
  static bool counts(ValidRequest::Kind kind) { return kind != ValidRequest::Kind::flush; }
  // What shares a bucket with it.
  static bool is_write(ValidRequest::Kind kind) {
    return kind != ValidRequest::Kind::read && kind != ValidRequest::Kind::map;
  }
  // Charges the request, and says when it may go. A discard, and zeroes that the medium makes by
  // itself, are one operation however long: no data is moved.
  uint64_t take(const ValidRequest& request, uint64_t now_ns);

 private:
  struct Amount {
    bool is_write;
    uint64_t operations, bytes;
  };
  static Amount amount_of(const ValidRequest& request);
  bool has(const Amount& amount, uint64_t now_ns) const;
  uint64_t cost_of(const Amount& amount) const;

  // On cache lines of their own: reactors write to them.
  struct alignas(64) Buckets {
    TokenBucket both, reads, writes;
    void set(const LimitRates::PerSecond& rates, uint64_t burst, uint64_t now_ns);
    uint64_t take(bool is_write, uint64_t amount, uint64_t now_ns);
    bool has(bool is_write, uint64_t amount, uint64_t now_ns) const;
    uint64_t cost_of(bool is_write, uint64_t amount) const;
  };

  Buckets operations_;
  Buckets bytes_;
  // Of a group: the weights of its disks that wait, together.
  std::atomic<uint64_t> waiting_weight_{0};
  // Of a disk in one:
  const std::shared_ptr<Limits> group_;
  const uint32_t weight_ = 1;
  std::atomic<uint32_t> waiting_{0};    // its queues that do
  std::atomic<uint64_t> next_turn_{0};  // in TokenBucket's units
};

}  // namespace ringdisk
