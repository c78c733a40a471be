// SPDX-License-Identifier: Apache-2.0
#include "protocol/decode.h"

#include <cstring>

namespace ringdisk {
namespace {

template <typename T>
T load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace

Request decode(Abi abi, std::span<const std::byte, wire::kEntryBytesMax> bytes) {
  const wire::Layout& layout = wire::layout(abi);
  Request request;
  request.operation = load<uint8_t>(bytes, 0);
  request.guest_id = load<uint64_t>(bytes, layout.id);
  request.sector = load<uint64_t>(bytes, layout.sector);
  switch (request.operation) {
    case wire::kIndirect:
      request.indirect_operation = load<uint8_t>(bytes, wire::kIndirectOperation);
      request.segment_count = load<uint16_t>(bytes, wire::kIndirectNrSegments);
      request.indirect_gref = load<GrantRef>(bytes, layout.indirect_grefs);
      break;
    case wire::kDiscard:
      request.discard_flag = load<uint8_t>(bytes, wire::kDiscardFlag);
      request.discard_sectors = load<uint64_t>(bytes, layout.discard_sectors);
      break;
    default:
      request.segment_count = load<uint8_t>(bytes, wire::kNrSegments);
      // All of them, used or not: cheaper than asking, and validate() bounds the count.
      std::memcpy(request.segments.data(), bytes.data() + layout.segments, sizeof request.segments);
  }
  return request;
}

}  // namespace ringdisk
