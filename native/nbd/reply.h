// SPDX-License-Identifier: Apache-2.0
// Answers to requests, as bytes. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nbd/wire.h"

namespace ringdisk::nbd {

// The longest header of an answer, with what comes before the data of a read in it.
inline constexpr size_t kReplyBytesMax = kExtendedReplyBytes + sizeof(uint64_t);

// How this client wants its answers.
struct ReplyStyle {
  bool structured = false;
  bool extended = false;
};

// Each writes to `to`, which has room for kReplyBytesMax, and returns the bytes written.

// The whole answer of what returns no data, or the end of one whose data has been sent.
size_t put_result(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset, Error error);
// What comes before `length` bytes of data from `offset`. `last`: nothing follows them.
size_t put_data_header(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset,
                       uint32_t length, bool last);

}  // namespace ringdisk::nbd
