// SPDX-License-Identifier: Apache-2.0
#include "grants/transfer.h"

#include <cstring>

namespace ringdisk {

void copy_segments(std::span<const Segment> segments, std::span<std::byte* const> pages,
                   std::byte* local, bool to_guest) {
  for (size_t i = 0; i < segments.size(); i++) {
    std::byte* guest = pages[i] + size_t{segments[i].first_sect} * kSectorBytes;
    const size_t sectors = segments[i].last_sect - segments[i].first_sect + 1u;
    const size_t length = sectors * kSectorBytes;
    std::memcpy(to_guest ? guest : local, to_guest ? local : guest, length);
    local += length;
  }
}

void Transfer::add(Domid domid, std::span<const Segment> segments, std::byte* local, bool to_guest,
                   bool by_mapping, bool& failed) {
  if (by_mapping) return by_map(domid, segments, local, to_guest, failed);
  for (const Segment& segment : segments) {
    const auto length =
        static_cast<uint16_t>((segment.last_sect - segment.first_sect + 1) * kSectorBytes);
    add_piece(domid, segment.gref, static_cast<uint16_t>(segment.first_sect * kSectorBytes), length,
              local, to_guest, failed);
    local += length;
  }
}

void Transfer::add_piece(Domid domid, GrantRef gref, uint16_t offset, uint16_t length,
                         std::byte* local, bool to_guest, bool& failed) {
  if (count_ == batch_.size()) flush();
  batch_[count_] = {local, gref, offset, length, domid, to_guest, false};
  failed_[count_] = &failed;
  count_++;
}

void Transfer::flush() {
  if (count_ == 0) return;
  grants_.copy(std::span(batch_).first(count_));
  for (size_t i = 0; i < count_; i++)
    if (!batch_[i].ok) *failed_[i] = true;
  count_ = 0;
}

void Transfer::by_map(Domid domid, std::span<const Segment> segments, std::byte* local,
                      bool to_guest, bool& failed) {
  std::array<GrantRef, kIndirectSegmentsMax> grefs;
  for (size_t i = 0; i < segments.size(); i++) grefs[i] = segments[i].gref;
  GrantMapping mapping;
  if (grants_.map(domid, std::span(grefs).first(segments.size()), to_guest, mapping) != 0) {
    failed = true;
    return;
  }
  std::array<std::byte*, kIndirectSegmentsMax> pages;
  for (size_t i = 0; i < segments.size(); i++) pages[i] = mapping.address + i * kPageBytes;
  copy_segments(segments, pages, local, to_guest);
  grants_.unmap(mapping);
}

}  // namespace ringdisk
