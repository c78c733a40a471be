// SPDX-License-Identifier: Apache-2.0
// Moves bytes between guest pages and bounce memory, many requests at a time: by grant copy, or by
// mapping the pages for as long as the copy takes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "platform/platform.h"
#include "protocol/limits.h"
#include "protocol/request.h"

namespace ringdisk {

// Between mapped guest pages, one for each segment, and the memory from `local` on.
void copy_segments(std::span<const Segment> segments, std::span<std::byte* const> pages,
                   std::byte* local, bool to_guest);

class Transfer {
 public:
  explicit Transfer(GrantTable& grants) : grants_(grants) {}

  // Adds all segments of one request: they lie one behind the other from `local` on. `failed` is
  // set to true at flush() if any page could not be reached; it must stay valid until then.
  void add(Domid domid, std::span<const Segment> segments, std::byte* local, bool to_guest,
           bool by_mapping, bool& failed);
  // One piece of a page, e.g. an indirect page.
  void add_piece(Domid domid, GrantRef gref, uint16_t offset, uint16_t length, std::byte* local,
                 bool to_guest, bool& failed);
  // Carries out what was added.
  void flush();

 private:
  void by_map(Domid domid, std::span<const Segment> segments, std::byte* local, bool to_guest,
              bool& failed);

  GrantTable& grants_;
  std::array<GrantCopy, kCopyBatch> batch_;
  std::array<bool*, kCopyBatch> failed_;
  size_t count_ = 0;
};

}  // namespace ringdisk
