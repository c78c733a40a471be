// SPDX-License-Identifier: Apache-2.0
// What every channel does alike while it carries an operation out part by part: the bookkeeping in
// the operation's own scratch space, bounded retries, and the limits on a part.
#pragma once

#include <cstdint>

#include "io/operation.h"

namespace ringdisk {

// How often one operation may be told "not now" before that becomes its result.
inline constexpr uint32_t kRetriesMax = 8;

// A device or file system may take seconds for a large discard and hold up everything behind it, so
// no part is larger than this, and one operation has one part under way at a time.
inline constexpr uint64_t kDiscardPartBytes = 32ull << 20;

// Resets the scratch fields; the first thing start() does.
void begin_parts(Operation& operation);

uint64_t discard_part_bytes(const Operation& operation);

// Whether the same part should be submitted again; counts.
bool may_retry(Operation& operation, int32_t part_result);

// Sets the result; returns true, for the caller to return.
bool finish(Operation& operation, int32_t result);
// All of it may be data.
bool map_as_data(Operation& operation);

}  // namespace ringdisk
