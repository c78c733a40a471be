// SPDX-License-Identifier: Apache-2.0
#include "protocol/validate.h"

#include "base/kill_point.h"
#include "protocol/abi.h"

namespace ringdisk {
namespace {

using Kind = ValidRequest::Kind;

// Rules for data: each segment inside its page, then all of it inside the disk.
Rejection check_data(std::span<const Segment> segments, const Geometry& geometry,
                     ValidRequest& valid) {
  uint64_t sectors = 0;  // at most 256 x 8
  for (const Segment& segment : segments) {
    if (segment.last_sect >= kSectorsPerPage || segment.first_sect > segment.last_sect)
      return Rejection::segment_sectors;
    sectors += segment.last_sect - segment.first_sect + 1u;
  }
  valid.sector_count = sectors;
  if (RD_PLANTED("capacity")) return Rejection::none;
  // Without overflow: the start first, then what is left behind it.
  if (valid.sector > geometry.capacity_sectors ||
      sectors > geometry.capacity_sectors - valid.sector)
    return Rejection::beyond_capacity;
  if (valid.kind != Kind::read && geometry.read_only) return Rejection::read_only;
  return Rejection::none;
}

Rejection check_discard(const Request& request, const Geometry& geometry, ValidRequest& valid) {
  // Read-only comes first: a discard destroys data too (CVE-2013-2140).
  if (geometry.read_only) return Rejection::read_only;
  if (!geometry.discard) return Rejection::discard_unsupported;
  valid.secure = (request.discard_flag & wire::kDiscardSecure) != 0;
  if (valid.secure && !geometry.secure_discard) return Rejection::discard_unsupported;
  valid.sector_count = request.discard_sectors;
  if (valid.sector_count == 0) return Rejection::empty;
  if (valid.sector > geometry.capacity_sectors ||
      valid.sector_count > geometry.capacity_sectors - valid.sector)
    return Rejection::beyond_capacity;
  return Rejection::none;
}

}  // namespace

const char* to_string(Rejection rejection) {
  switch (rejection) {
    case Rejection::none:
      return "none";
    case Rejection::unknown_operation:
      return "unknown operation";
    case Rejection::discard_unsupported:
      return "discard not offered";
    case Rejection::segment_count:
      return "number of segments out of bounds";
    case Rejection::indirect_operation:
      return "indirect operation is neither read nor write";
    case Rejection::segment_sectors:
      return "segment outside its page";
    case Rejection::beyond_capacity:
      return "beyond the end of the disk";
    case Rejection::empty:
      return "empty range";
    case Rejection::read_only:
      return "write to a read-only disk";
    case Rejection::indirect_page:
      return "unreadable indirect page";
    case Rejection::bad_grant:
      return "unusable grant";
  }
  return "unknown";
}

Rejection check_segment_count(const Request& request, const Geometry& geometry) {
  const uint32_t count = request.segment_count;
  switch (request.operation) {
    case wire::kRead:
    case wire::kWrite:
      return count >= 1 && count <= kDirectSegmentsMax ? Rejection::none : Rejection::segment_count;
    case wire::kWriteBarrier:
    case wire::kFlushDiskcache:  // may be empty; Linux sends data with a barrier only
      return count <= kDirectSegmentsMax ? Rejection::none : Rejection::segment_count;
    case wire::kDiscard:
      return Rejection::none;
    case wire::kIndirect:
      if (geometry.indirect_segments_max == 0) return Rejection::unknown_operation;
      if (request.indirect_operation != wire::kRead && request.indirect_operation != wire::kWrite)
        return Rejection::indirect_operation;
      return count >= 1 && count <= geometry.indirect_segments_max ? Rejection::none
                                                                   : Rejection::segment_count;
    default:
      return Rejection::unknown_operation;
  }
}

Rejection validate(const Request& request, std::span<const Segment> segments,
                   const Geometry& geometry, ValidRequest& valid) {
  if (Rejection rejection = check_segment_count(request, geometry); rejection != Rejection::none)
    return rejection;
  valid = {Kind::read, false, static_cast<uint16_t>(segments.size()), request.sector, 0};
  switch (request.operation) {
    case wire::kRead:
      break;
    case wire::kWrite:
      valid.kind = Kind::write;
      break;
    case wire::kIndirect:
      valid.kind = request.indirect_operation == wire::kWrite ? Kind::write : Kind::read;
      break;
    case wire::kWriteBarrier:
      valid.kind = Kind::barrier;
      break;
    case wire::kFlushDiskcache:
      // Data sent along with a flush must be as durable as the flush promises: a barrier.
      valid.kind = segments.empty() ? Kind::flush : Kind::barrier;
      break;
    case wire::kDiscard:
      valid.kind = Kind::discard;
      return check_discard(request, geometry, valid);
    default:
      return Rejection::unknown_operation;
  }
  if (segments.empty()) {
    // An empty flush or barrier has no range: blkfront leaves an arbitrary sector number in it.
    valid.sector = 0;
    return Rejection::none;
  }
  return check_data(segments, geometry, valid);
}

}  // namespace ringdisk
