// SPDX-License-Identifier: Apache-2.0
// Every bound of the request path, in one place. None of them is a number a guest can choose.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace ringdisk {

inline constexpr uint32_t kRingPageOrderMax = 4;  // xen-blkback's XENBUS_MAX_RING_GRANT_ORDER
inline constexpr uint32_t kRingPagesMax = 1u << kRingPageOrderMax;
inline constexpr uint32_t kRingEntriesMax = 512;  // 16 pages of 112-byte entries

inline constexpr uint32_t kDirectSegmentsMax = 11;  // BLKIF_MAX_SEGMENTS_PER_REQUEST
// What blkback offers too: 1 MiB requests. A guest that migrates here must find no less.
inline constexpr uint32_t kIndirectSegmentsMax = 256;
inline constexpr uint32_t kSegmentsPerIndirectPage = kPageBytes / 8;
inline constexpr uint32_t kRequestBytesMax = kIndirectSegmentsMax * kPageBytes;

inline constexpr uint32_t kTakeBatch = 32;  // requests taken per queue and poll: fairness
// Data started per queue and turn, besides the first request's: its neighbours wait meanwhile.
inline constexpr uint64_t kTurnBytes = 4u << 20;
// A page costs as much to reach for one sector as for eight.
inline constexpr uint32_t kTurnPages = kTurnBytes / kPageBytes;
inline constexpr uint32_t kCopyBatch = 1024;    // grant copies per call
inline constexpr uint32_t kPendingPorts = 256;  // event channel ports read per call
inline constexpr uint32_t kQueuesPerVbdMax = 16;
inline constexpr uint32_t kMailboxMax = 4096;  // control commands waiting per reactor

// A guest that sends rubbish pays with its own ring's time (xen-blkback sleeps as long).
inline constexpr uint64_t kRejectPenaltyUs = 1000;
// Wake-ups that find no work delay the unmask of that port, doubling between these two.
inline constexpr uint64_t kStormDelayMinUs = 1000;
inline constexpr uint64_t kStormDelayMaxUs = 64000;
// How often unused persistent grants are looked for: they go after one to two of these.
inline constexpr uint64_t kGrantAgeUs = 30'000'000;
// Mappings undone in one turn, each a hypercall and a system call; and until the next such turn.
inline constexpr uint32_t kUnmapSlice = 32;
inline constexpr uint64_t kUnmapPauseUs = 1000;
// What failed and is tried again waits this long before, doubling between these two.
inline constexpr uint64_t kRetryMinUs = 100'000;
inline constexpr uint64_t kRetryMaxUs = 5'000'000;

// All segments of an indirect request fit one indirect page, so one grant copy fetches them.
static_assert(kIndirectSegmentsMax <= kSegmentsPerIndirectPage);
static_assert((kRingEntriesMax & (kRingEntriesMax - 1)) == 0);

}  // namespace ringdisk
