// SPDX-License-Identifier: Apache-2.0
// The bytes of blkif and its ring, as xen/include/public/io/{blkif,ring}.h lay them out for the
// three ABIs. `native` is x86_64 on the only architecture built today. Offsets instead of structs:
// one decoder then serves every ABI, and nothing depends on the compiler's packing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/units.h"
#include "protocol/limits.h"

namespace ringdisk {

enum class Abi : uint8_t { x86_64, x86_32 };

namespace wire {

// operation codes (BLKIF_OP_*)
inline constexpr uint8_t kRead = 0;
inline constexpr uint8_t kWrite = 1;
inline constexpr uint8_t kWriteBarrier = 2;
inline constexpr uint8_t kFlushDiskcache = 3;
inline constexpr uint8_t kDiscard = 5;
inline constexpr uint8_t kIndirect = 6;
inline constexpr uint8_t kDiscardSecure = 1;  // flag of a discard

// response status (BLKIF_RSP_*)
inline constexpr int16_t kOkay = 0;
inline constexpr int16_t kError = -1;
inline constexpr int16_t kNotSupported = -2;

// The shared ring's header: four indices, then padding up to the first entry.
inline constexpr size_t kReqProd = 0;
inline constexpr size_t kReqEvent = 4;
inline constexpr size_t kRspProd = 8;
inline constexpr size_t kRspEvent = 12;
inline constexpr size_t kRingHeaderBytes = 64;

// Offsets within one entry. operation is byte 0 in all; what byte 1 is depends on it.
struct Layout {
  size_t entry_bytes;  // union of request and response
  size_t id;
  size_t sector;
  size_t segments;  // read, write, barrier
  size_t discard_sectors;
  size_t indirect_grefs;
  size_t response_bytes;  // id, operation, status and padding
};
inline constexpr size_t kNrSegments = 1;          // u8: read, write, barrier
inline constexpr size_t kDiscardFlag = 1;         // u8
inline constexpr size_t kIndirectOperation = 1;   // u8
inline constexpr size_t kIndirectNrSegments = 2;  // u16
inline constexpr size_t kResponseId = 0;
inline constexpr size_t kResponseOperation = 8;
inline constexpr size_t kResponseStatus = 10;

inline constexpr Layout kLayout64{112, 8, 16, 24, 24, 28, 16};
inline constexpr Layout kLayout32{108, 4, 12, 20, 20, 24, 12};
inline constexpr size_t kEntryBytesMax = 112;

constexpr const Layout& layout(Abi abi) { return abi == Abi::x86_32 ? kLayout32 : kLayout64; }

// One segment, alike in entries and indirect pages: gref u32, first_sect u8, last_sect u8, pad u16.
inline constexpr size_t kSegmentBytes = 8;
static_assert(kLayout64.segments + kDirectSegmentsMax * kSegmentBytes == kLayout64.entry_bytes);
static_assert(kLayout32.segments + kDirectSegmentsMax * kSegmentBytes == kLayout32.entry_bytes);

// Positions of a ring of `pages` pages: a power of two, 32 for one page in every ABI.
constexpr uint32_t ring_entries(Abi abi, uint32_t pages) {
  const size_t bytes = size_t{pages} * kPageBytes - kRingHeaderBytes;
  return std::bit_floor(static_cast<uint32_t>(bytes / layout(abi).entry_bytes));
}
static_assert(ring_entries(Abi::x86_64, 1) == 32 && ring_entries(Abi::x86_32, 1) == 32);
static_assert(ring_entries(Abi::x86_64, kRingPagesMax) == kRingEntriesMax);
static_assert(ring_entries(Abi::x86_32, kRingPagesMax) == kRingEntriesMax);

}  // namespace wire
}  // namespace ringdisk
