// SPDX-License-Identifier: Apache-2.0
#include "nbd/reply.h"

#include <doctest/doctest.h>

#include <array>

namespace ringdisk::nbd {
namespace {

constexpr ReplyStyle kSimple{};
constexpr ReplyStyle kStructured{.structured = true};
constexpr ReplyStyle kExtended{.structured = true, .extended = true};

TEST_CASE("nbd_reply: a_result_in_each_style") {
  std::array<std::byte, kReplyBytesMax> to;
  CHECK(put_result(to.data(), kSimple, 7, 512, Error::io) == kSimpleReplyBytes);
  CHECK(get<uint32_t>(to.data()) == kSimpleReplyMagic);
  CHECK(get<uint32_t>(to.data() + 4) == 5);
  CHECK(get<uint64_t>(to.data() + 8) == 7);

  CHECK(put_result(to.data(), kStructured, 7, 512, Error::none) == kStructuredReplyBytes);
  CHECK(get<uint32_t>(to.data()) == kStructuredReplyMagic);
  CHECK(get<uint16_t>(to.data() + 4) == kChunkDone);
  CHECK(get<uint16_t>(to.data() + 6) == 0);
  CHECK(get<uint32_t>(to.data() + 16) == 0);

  CHECK(put_result(to.data(), kExtended, 7, 512, Error::no_space) == kExtendedReplyBytes + 6);
  CHECK(get<uint32_t>(to.data()) == kExtendedReplyMagic);
  CHECK(get<uint16_t>(to.data() + 6) == 0x8001);
  CHECK(get<uint64_t>(to.data() + 16) == 512);
  CHECK(get<uint64_t>(to.data() + 24) == 6);
  CHECK(get<uint32_t>(to.data() + 32) == 28);
}

TEST_CASE("nbd_reply: data_has_its_offset_before_it") {
  std::array<std::byte, kReplyBytesMax> to;
  CHECK(put_data_header(to.data(), kSimple, 7, 512, 4096, true) == kSimpleReplyBytes);
  CHECK(put_data_header(to.data(), kStructured, 7, 512, 4096, false) == kStructuredReplyBytes + 8);
  CHECK(get<uint16_t>(to.data() + 4) == 0);
  CHECK(get<uint16_t>(to.data() + 6) == 1);
  CHECK(get<uint32_t>(to.data() + 16) == 4104);
  CHECK(get<uint64_t>(to.data() + 20) == 512);
  CHECK(put_data_header(to.data(), kExtended, 7, 512, 4096, true) == kReplyBytesMax);
}

TEST_CASE("nbd_reply: extents_in_each_style") {
  std::array<std::byte, kStatusBytesMax> to;
  const std::array<Extent, 2> extents = {{{4096, 3}, {8192, 0}}};
  CHECK(put_block_status(to.data(), kStructured, 7, 0, 1, extents, true) == 20 + 4 + 16);
  CHECK(get<uint32_t>(to.data() + 20) == 1);
  CHECK(get<uint32_t>(to.data() + 24) == 4096);
  CHECK(get<uint32_t>(to.data() + 28) == 3);
  CHECK(put_block_status(to.data(), kExtended, 7, 0, 1, extents, true) == 32 + 8 + 32);
  CHECK(get<uint32_t>(to.data() + 36) == 2);
  CHECK(get<uint64_t>(to.data() + 56) == 8192);
  const std::array<Extent, kExtentsMax> most = {};
  CHECK(put_block_status(to.data(), kExtended, 7, 0, 1, most, true) == kStatusBytesMax);
}

}  // namespace
}  // namespace ringdisk::nbd
