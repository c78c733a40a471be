// SPDX-License-Identifier: Apache-2.0
// A client's request: read once, checked in one place. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "nbd/negotiation.h"
#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {

// As it was sent.
struct RawRequest {
  uint16_t flags = 0;
  uint16_t command = 0;
  uint64_t cookie = 0;  // opaque, echoed
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct Request {
  Command command = Command::disconnect;
  bool fua = false;        // write, trim, zeroes: on the medium before the answer
  bool no_hole = false;    // zeroes: the space stays taken
  bool fast_zero = false;  // zeroes: refuse it rather than write them
  bool one_chunk = false;  // read: all data in one piece; block status: one extent
  uint64_t cookie = 0;
  uint64_t offset = 0;  // bytes, inside the export, a multiple of its block_min
  uint64_t length = 0;  // likewise; 0 for flush and disconnect
};

enum class Decoded : uint8_t { whole, part, broken };  // broken: no request begins here

// Reads a header off the front; its size is what header_bytes() says.
Decoded decode(std::span<const std::byte> in, bool extended, RawRequest& request);

inline size_t header_bytes(bool extended) {
  return extended ? kExtendedRequestBytes : kRequestBytes;
}

// Bytes that follow the header, whatever becomes of the request.
uint64_t payload_bytes(const RawRequest& raw, bool extended);

// No payload is longer: whoever announces more is not talked to any further.
inline constexpr uint64_t kPayloadBytesMax = 32u << 20;

// `request` is filled for Error::none only.
Error validate(const RawRequest& raw, const ExportFacts& facts, const Agreement& agreement,
               Request& request);

}  // namespace ringdisk::nbd
