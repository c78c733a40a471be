// SPDX-License-Identifier: Apache-2.0
// Answers to requests, as bytes. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {

// The longest header of an answer, with what comes before the data of a read in it.
inline constexpr size_t kReplyBytesMax = kExtendedReplyBytes + sizeof(uint64_t);

// How this client wants its answers.
struct ReplyStyle {
  bool structured = false;
  bool extended = false;
};

// What the client is told of a failed I/O. `error` is an errno, positive.
Error error_of(int error);

// Each writes to `to`, which has room for kReplyBytesMax, and returns the bytes written.

// The whole answer of what returns no data, or the end of one whose data has been sent.
size_t put_result(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset, Error error);
// What comes before `length` bytes of data from `offset`. `last`: nothing follows them.
size_t put_data_header(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset,
                       uint32_t length, bool last);

struct Extent {
  uint64_t length;  // bytes
  uint32_t flags;   // kState...
};
inline constexpr size_t kExtentsMax = 256;
inline constexpr size_t kStatusBytesMax =
    kExtendedReplyBytes + 2 * sizeof(uint32_t) + kExtentsMax * 2 * sizeof(uint64_t);

// The answer to a block status, for one context: at most kExtentsMax extents and kStatusBytesMax
// bytes. Without extended headers no extent is longer than a request can be.
size_t put_block_status(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset,
                        uint32_t context, std::span<const Extent> extents, bool last);

}  // namespace ringdisk::nbd
