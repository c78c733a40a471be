// SPDX-License-Identifier: Apache-2.0
// A request as it was decoded: it says whatever the guest said. What has passed validate() is a
// ValidRequest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/units.h"
#include "protocol/abi.h"
#include "protocol/limits.h"

namespace ringdisk {

// Sectors of one granted page, both ends inclusive. Laid out as on the wire in every ABI, in
// entries and in indirect pages, so that segments are copied and never converted.
struct Segment {
  GrantRef gref;
  uint8_t first_sect;
  uint8_t last_sect;
  uint16_t padding;
};
static_assert(sizeof(Segment) == wire::kSegmentBytes && offsetof(Segment, first_sect) == 4 &&
              offsetof(Segment, last_sect) == 5);

struct Request {
  uint8_t operation = 0;           // as sent
  uint8_t indirect_operation = 0;  // indirect: read or write
  uint8_t discard_flag = 0;
  uint16_t segment_count = 0;  // as sent: not yet bounded
  uint64_t guest_id = 0;       // opaque, echoed
  uint64_t sector = 0;
  uint64_t discard_sectors = 0;
  GrantRef indirect_gref = 0;  // the first page; one holds all segments we allow
  std::array<Segment, kDirectSegmentsMax> segments{};  // direct: the first segment_count are filled

  // What a response names: of an indirect request the operation inside it, as xen-blkback does and
  // Linux insists on ("response has wrong operation" disables the disk).
  uint8_t answered_operation() const {
    return operation == wire::kIndirect ? indirect_operation : operation;
  }
};

}  // namespace ringdisk
