// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/units.h"
#include "protocol/abi.h"

namespace ringdisk {

// One segment of a request: sectors first_sect to last_sect, both inclusive, of a granted page.
struct FrontendSegment {
  GrantRef gref;
  uint8_t first_sect;
  uint8_t last_sect;
};

// A request as the guest means it; encode() makes an entry of it.
struct FrontendRequest {
  uint8_t operation = wire::kRead;  // wire::kRead and so on; never kIndirect
  uint64_t guest_id = 0;
  uint64_t sector = 0;           // 512 bytes each
  uint64_t discard_sectors = 0;  // discard only
  std::span<const FrontendSegment> segments{};
  // More than kDirectSegmentsMax segments: the page that lists them, see encode_segments().
  GrantRef indirect_gref = 0;

  bool indirect() const { return segments.size() > kDirectSegmentsMax; }
};

// Writes all of one entry (its ABI's entry_bytes).
void encode(const FrontendRequest& request, Abi abi, std::byte* entry);
// Writes the segments one after the other: into an entry or an indirect page.
void encode_segments(std::span<const FrontendSegment> segments, std::byte* to);

struct FrontendResponse {
  uint64_t guest_id;
  uint8_t operation;
  int16_t status;
};

// One shared ring, seen from the guest: event-idx on both sides as ring.h defines it. One thread.
class FrontendRing {
 public:
  // Initialises the ring; `shared` are its pages, consecutive.
  FrontendRing(std::byte* shared, Abi abi, uint32_t pages);

  uint32_t entries() const { return entries_; }
  bool full() const { return req_prod_ - rsp_cons_ == entries_; }

  // Writes the next entry, invisible until publish(); only while not full().
  void put(const FrontendRequest& request);
  // Makes all entries visible at once. Returns whether the backend wants to be notified.
  bool publish();

  // Responses not taken yet, or kImpossible when the backend answered what was never asked.
  static constexpr uint32_t kImpossible = UINT32_MAX;
  uint32_t waiting() const;
  FrontendResponse take();  // only after waiting() > 0
  // Asks the backend to notify us of its next response. Look at waiting() once more afterwards.
  void arm();

 private:
  uint32_t load(size_t offset) const;
  void store(size_t offset, uint32_t value);
  std::byte* entry(uint32_t index) const;

  std::byte* shared_;
  Abi abi_;
  uint32_t entries_;
  uint32_t req_prod_ = 0;       // private: entries written
  uint32_t req_published_ = 0;  // what the backend has been shown
  uint32_t rsp_cons_ = 0;
};

}  // namespace ringdisk
