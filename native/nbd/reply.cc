// SPDX-License-Identifier: Apache-2.0
#include "nbd/reply.h"

#include <cerrno>

namespace ringdisk::nbd {
namespace {

size_t put_simple(std::byte* to, uint64_t cookie, Error error) {
  std::byte* at = put(to, kSimpleReplyMagic);
  at = put(at, static_cast<uint32_t>(error));
  put(at, cookie);
  return kSimpleReplyBytes;
}

// `offset` and `length` of the request are what extended headers repeat; `payload` bytes follow.
size_t put_chunk(std::byte* to, ReplyStyle style, Chunk type, bool last, uint64_t cookie,
                 uint64_t offset, uint32_t payload) {
  std::byte* at = put(to, style.extended ? kExtendedReplyMagic : kStructuredReplyMagic);
  at = put(at, last ? kChunkDone : uint16_t{0});
  at = put(at, static_cast<uint16_t>(type));
  at = put(at, cookie);
  if (style.extended) {
    at = put(at, offset);
    at = put(at, uint64_t{payload});
  } else {
    at = put(at, payload);
  }
  return static_cast<size_t>(at - to);
}

}  // namespace

Error error_of(int error) {
  switch (error) {
    case 0:
      return Error::none;
    case EPERM:
    case EROFS:
    case EACCES:
      return Error::not_permitted;
    case ENOMEM:
      return Error::no_memory;
    case EINVAL:
      return Error::invalid;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Error::no_space;
    case EOVERFLOW:
      return Error::overflow;
    case EOPNOTSUPP:
      return Error::not_supported;
    case ESHUTDOWN:
      return Error::shutdown;
    default:
      return Error::io;
  }
}

size_t put_result(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset, Error error) {
  if (!style.structured) return put_simple(to, cookie, error);
  if (error == Error::none) return put_chunk(to, style, Chunk::none, true, cookie, offset, 0);
  // Its number, and no words.
  constexpr uint32_t kPayload = sizeof(uint32_t) + sizeof(uint16_t);
  const size_t header = put_chunk(to, style, Chunk::error, true, cookie, offset, kPayload);
  put(put(to + header, static_cast<uint32_t>(error)), uint16_t{0});
  return header + kPayload;
}

size_t put_data_header(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset,
                       uint32_t length, bool last) {
  if (!style.structured) return put_simple(to, cookie, Error::none);
  const uint32_t payload = static_cast<uint32_t>(sizeof offset) + length;
  const size_t header = put_chunk(to, style, Chunk::offset_data, last, cookie, offset, payload);
  put(to + header, offset);
  return header + sizeof offset;
}

size_t put_block_status(std::byte* to, ReplyStyle style, uint64_t cookie, uint64_t offset,
                        uint32_t context, std::span<const Extent> extents, bool last) {
  const auto count = static_cast<uint32_t>(extents.size());
  const uint32_t payload = style.extended ? 8 + count * 16 : 4 + count * 8;
  const Chunk type = style.extended ? Chunk::block_status_extended : Chunk::block_status;
  std::byte* at = to + put_chunk(to, style, type, last, cookie, offset, payload);
  at = put(at, context);
  if (style.extended) at = put(at, count);
  for (const Extent& extent : extents) {
    if (style.extended) {
      at = put(put(at, extent.length), uint64_t{extent.flags});
    } else {
      at = put(put(at, static_cast<uint32_t>(extent.length)), extent.flags);
    }
  }
  return static_cast<size_t>(at - to);
}

}  // namespace ringdisk::nbd
