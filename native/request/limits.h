// SPDX-License-Identifier: Apache-2.0
// What a disk may ask a second, or several disks together: the buckets that all their queues share.
#pragma once

#include <cstdint>

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

// Any thread, but for set(): that is for one at a time.
class Limits {
 public:
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
  // On cache lines of their own: reactors write to them.
  struct alignas(64) Buckets {
    TokenBucket both, reads, writes;
    void set(const LimitRates::PerSecond& rates, uint64_t burst, uint64_t now_ns);
    uint64_t take(bool is_write, uint64_t amount, uint64_t now_ns);
  };

  Buckets operations_;
  Buckets bytes_;
};

}  // namespace ringdisk
