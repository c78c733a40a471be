// SPDX-License-Identifier: Apache-2.0
// THE rules for what a guest may ask: the one place, pure, and exhaustive. Everything after it
// works on ValidRequest and may rely on each rule below.
#pragma once

#include <cstdint>
#include <span>

#include "protocol/request.h"
#include "protocol/valid_request.h"

namespace ringdisk {

// What was agreed at connect, and the medium's present size.
struct Geometry {
  uint64_t capacity_sectors = 0;
  uint16_t indirect_segments_max = 0;  // 0: not offered
  bool read_only = false;
  bool discard = false;
  bool secure_discard = false;
};

enum class Rejection : uint8_t {
  none,
  unknown_operation,    // answered EOPNOTSUPP; all others ERROR
  discard_unsupported,  // answered EOPNOTSUPP
  segment_count,
  indirect_operation,
  segment_sectors,  // first_sect > last_sect, or outside its page
  beyond_capacity,
  empty,
  read_only,
  indirect_page,  // the page of segments could not be read
  bad_grant,      // a data page could not be reached
};
const char* to_string(Rejection rejection);

// Whether the guest is told "not supported" instead of "error": it may then stop asking, which for
// operations it should not have used is what we want.
constexpr bool is_unsupported(Rejection rejection) {
  return rejection == Rejection::unknown_operation || rejection == Rejection::discard_unsupported;
}

// First half, before an indirect request's page is fetched: how many segments may be copied?
// Returns Rejection::none when request.segment_count is within bounds for its operation.
Rejection check_segment_count(const Request& request, const Geometry& geometry);

// Second half. `segments` are the request's own (direct) or those copied from its indirect page;
// its size is request.segment_count.
Rejection validate(const Request& request, std::span<const Segment> segments,
                   const Geometry& geometry, ValidRequest& valid);

}  // namespace ringdisk
