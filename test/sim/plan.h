// SPDX-License-Identifier: Apache-2.0
// Which request comes next: a pure function of the seed and the request's number.
#pragma once

#include <cstdint>
#include <vector>

#include "protocol/abi.h"

namespace ringdisk::sim {

// What is wrong with a request, if anything. Each is answered exactly once, and touches nothing.
enum class Flaw : uint8_t {
  none,
  unknown_operation,
  no_segments,
  too_many_segments,  // 12 in the entry itself
  beyond_end,
  swapped_sectors,         // first_sect > last_sect
  ungranted_page,          // of the last segment
  ungranted_segment_list,  // an indirect request's page
  indirect_operation,      // neither read nor write
  empty_discard,
};
inline constexpr uint32_t kFlaws = 10;

struct PlannedSegment {
  uint8_t first_sect;
  uint8_t last_sect;
};

struct PlannedRequest {
  uint8_t operation;  // wire::kRead and so on; never kIndirect
  Flaw flaw = Flaw::none;
  bool indirect = false;
  uint64_t sector = 0;
  uint64_t sector_count = 0;
  std::vector<PlannedSegment> segments{};

  bool has_data() const { return !segments.empty(); }
  bool writes() const { return flaw == Flaw::none && has_data() && operation != wire::kRead; }
  bool reads() const { return flaw == Flaw::none && operation == wire::kRead; }
  bool discards() const { return flaw == Flaw::none && operation == wire::kDiscard; }
  int16_t expected_status() const;
};

PlannedRequest plan_request(uint64_t seed, uint64_t number, uint64_t disk_sectors);

}  // namespace ringdisk::sim
