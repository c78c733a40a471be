// SPDX-License-Identifier: Apache-2.0
// What a guest may ask, written down a second time: from Xen's blkif.h and from what the backend
// promises, through the C structs of test/support, without a line of native/blkif's own decoding or
// judging. Where the two disagree, one of them is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "blkif_structs.h"
#include "protocol/validate.h"

namespace ringdisk::fuzz {

// A ring entry's fields, whatever its ABI.
struct Asked {
  uint8_t operation = 0;
  uint8_t second = 0;  // the byte behind it: segments, flag or indirect operation
  uint64_t id = 0;
  uint64_t sector = 0;
  uint64_t discard_sectors = 0;
  uint32_t segment_count = 0;
  uint32_t indirect_gref = 0;
  std::vector<xen_abi::Segment> segments{};  // in the entry itself
};

template <typename Entry>
Asked read_entry(std::span<const std::byte> bytes) {
  Entry entry;
  std::memcpy(&entry, bytes.data(), sizeof entry);
  Asked asked{.operation = entry.rw.operation, .second = entry.rw.nr_segments};
  asked.id = entry.rw.id;
  asked.sector = entry.rw.sector_number;
  asked.segment_count = entry.rw.nr_segments;
  if (asked.operation == 5) {
    asked.segment_count = 0;
    asked.discard_sectors = entry.discard.nr_sectors;
  } else if (asked.operation == 6) {
    asked.segment_count = entry.indirect.nr_segments;
    asked.indirect_gref = entry.indirect.indirect_grefs[0];
  } else {
    for (uint32_t i = 0; i < asked.segment_count && i < 11; i++)
      asked.segments.push_back(entry.rw.seg[i]);
  }
  return asked;
}

inline Asked read_entry(Abi abi, std::span<const std::byte> bytes) {
  return abi == Abi::x86_32 ? read_entry<xen_abi::x86_32::Entry>(bytes)
                            : read_entry<xen_abi::x86_64::Entry>(bytes);
}

inline bool is_inside(uint64_t sector, unsigned __int128 count, uint64_t capacity) {
  return static_cast<unsigned __int128>(sector) + count <= capacity;
}

// Whether the number of segments alone is a reason to refuse, before any is looked at.
inline bool has_segment_count(const Asked& asked, const Geometry& disk) {
  const uint32_t count = asked.segment_count;
  switch (asked.operation) {
    case 0:
    case 1:
      return count > 0 && count <= 11;
    case 2:
    case 3:
      return count <= 11;
    case 6:
      return asked.second < 2 && count > 0 && count <= disk.indirect_segments_max;
    default:
      return false;
  }
}

// The status a request deserves (0, -1 error, -2 not supported) if every grant can be used.
// `segments`: the entry's own, or those in the indirect page.
inline int16_t deserved_status(const Asked& asked, std::span<const xen_abi::Segment> segments,
                               const Geometry& disk) {
  if (asked.operation == 5) {
    if (disk.read_only) return -1;
    if (!disk.discard || ((asked.second & 1) != 0 && !disk.secure_discard)) return -2;
    const bool inside = is_inside(asked.sector, asked.discard_sectors, disk.capacity_sectors);
    return asked.discard_sectors > 0 && inside ? 0 : -1;
  }
  if (asked.operation == 4 || asked.operation > 6) return -2;
  if (asked.operation == 6 && disk.indirect_segments_max == 0) return -2;
  if (!has_segment_count(asked, disk)) return -1;
  if (segments.empty()) return 0;  // a flush or barrier of nothing
  uint32_t sectors = 0;
  for (const xen_abi::Segment& segment : segments) {
    if (segment.first_sect > segment.last_sect || segment.last_sect > 7) return -1;
    sectors += segment.last_sect - segment.first_sect + 1u;
  }
  if (!is_inside(asked.sector, sectors, disk.capacity_sectors)) return -1;
  const bool reads = asked.operation == 0 || (asked.operation == 6 && asked.second == 0);
  return reads || !disk.read_only ? 0 : -1;
}

// What the answer names.
inline uint8_t answered_operation(const Asked& asked) {
  return asked.operation == 6 ? asked.second : asked.operation;
}

}  // namespace ringdisk::fuzz
