// SPDX-License-Identifier: Apache-2.0
// NBD as it is on the wire: names and numbers of the protocol's public description
// (NetworkBlockDevice/nbd, doc/proto.md). All numbers are big-endian.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace ringdisk::nbd {

inline constexpr uint64_t kGreeting = 0x4e42444d41474943;     // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

inline constexpr size_t kOptionBytes = 16;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kExtendedRequestBytes = 32;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kStructuredReplyBytes = 20;
inline constexpr size_t kExtendedReplyBytes = 32;

// Of the greeting, and the client's answer to it.
inline constexpr uint16_t kFixedNewstyle = 1 << 0;
inline constexpr uint16_t kNoZeroes = 1 << 1;

enum class Option : uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class OptionReply : uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  invalid = 0x80000003,
  unknown = 0x80000006,
  too_big = 0x80000009,
  extended_headers_required = 0x8000000a,
};

enum class Info : uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

// What an export can, told at the end of the handshake.
enum Transmission : uint16_t {
  kHasFlags = 1 << 0,
  kReadOnly = 1 << 1,
  kSendFlush = 1 << 2,
  kSendFua = 1 << 3,
  kSendTrim = 1 << 5,
  kSendWriteZeroes = 1 << 6,
  kSendDf = 1 << 7,
  kCanMultiConn = 1 << 8,
  kSendCache = 1 << 10,
  kSendFastZero = 1 << 11,
};

enum class Command : uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

enum CommandFlag : uint16_t {
  kFua = 1 << 0,
  kNoHole = 1 << 1,
  kDf = 1 << 2,
  kReqOne = 1 << 3,
  kFastZero = 1 << 4,
  kPayloadLength = 1 << 5,
};

inline constexpr uint16_t kChunkDone = 1 << 0;

enum class Chunk : uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  block_status_extended = 6,
  error = 0x8001,
  error_offset = 0x8002,
};

enum class Error : uint32_t {
  none = 0,
  not_permitted = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  no_space = 28,
  overflow = 75,
  not_supported = 95,
  shutdown = 108,
};

// In base:allocation.
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;
// In qemu:dirty-bitmap:NAME.
inline constexpr uint32_t kStateDirty = 1 << 0;

template <std::unsigned_integral T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::little && sizeof(T) > 1)
    value = sizeof(T) == 2   ? static_cast<T>(__builtin_bswap16(static_cast<uint16_t>(value)))
            : sizeof(T) == 4 ? static_cast<T>(__builtin_bswap32(static_cast<uint32_t>(value)))
                             : static_cast<T>(__builtin_bswap64(value));
  return value;
}

template <std::unsigned_integral T>
std::byte* put(std::byte* to, T value) {
  const T swapped = get<T>(reinterpret_cast<const std::byte*>(&value));
  std::memcpy(to, &swapped, sizeof swapped);
  return to + sizeof swapped;
}

// For what is said seldom: grows.
class Writer {
 public:
  explicit Writer(std::vector<std::byte>& to) : to_(to) {}
  template <std::unsigned_integral T>
  Writer& number(T value) {
    to_.resize(to_.size() + sizeof value);
    put(to_.data() + to_.size() - sizeof value, value);
    return *this;
  }
  Writer& text(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    to_.insert(to_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Writer& zeroes(size_t count) {
    to_.resize(to_.size() + count);
    return *this;
  }

 private:
  std::vector<std::byte>& to_;
};

}  // namespace ringdisk::nbd
