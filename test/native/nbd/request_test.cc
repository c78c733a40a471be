// SPDX-License-Identifier: Apache-2.0
#include "nbd/request.h"

#include <doctest/doctest.h>

#include <vector>

namespace ringdisk::nbd {
namespace {

const ExportFacts kDisk = {.name = "disk",
                           .size = 64 << 20,
                           .flags = kHasFlags | kSendFlush | kSendFua | kSendTrim |
                                    kSendWriteZeroes | kSendDf | kSendCache | kSendFastZero,
                           .block_min = 512};
const Agreement kPlain{};
const Agreement kStructured{.structured = true, .contexts = {1}};
const Agreement kExtended{.structured = true, .extended = true, .contexts = {1}};

RawRequest raw(Command command, uint64_t offset, uint64_t length, uint16_t flags = 0) {
  return {.flags = flags,
          .command = static_cast<uint16_t>(command),
          .cookie = 7,
          .offset = offset,
          .length = length};
}

Error judge(const RawRequest& request, const Agreement& agreement = kStructured,
            const ExportFacts& facts = kDisk) {
  Request valid;
  return validate(request, facts, agreement, valid);
}

std::vector<std::byte> encoded(bool extended) {
  std::vector<std::byte> bytes;
  Writer writer(bytes);
  writer.number(extended ? kExtendedRequestMagic : kRequestMagic)
      .number(uint16_t{5})
      .number(uint16_t{1})
      .number(uint64_t{0x0102030405060708})
      .number(uint64_t{0x1122334455667788});
  if (extended)
    writer.number(uint64_t{0x99aabbccddeeff00});
  else
    writer.number(uint32_t{0x99aabbcc});
  return bytes;
}

TEST_CASE("nbd_request: both_kinds_of_headers_are_read") {
  for (const bool extended : {false, true}) {
    std::vector<std::byte> bytes = encoded(extended);
    RawRequest request;
    CHECK(bytes.size() == header_bytes(extended));
    CHECK(decode(std::span(bytes).first(bytes.size() - 1), extended, request) == Decoded::part);
    REQUIRE(decode(bytes, extended, request) == Decoded::whole);
    CHECK(request.flags == 5);
    CHECK(request.command == 1);
    CHECK(request.cookie == 0x0102030405060708);
    CHECK(request.offset == 0x1122334455667788);
    CHECK(request.length == (extended ? 0x99aabbccddeeff00 : 0x99aabbcc));
    bytes[0] ^= std::byte{1};
    CHECK(decode(bytes, extended, request) == Decoded::broken);
  }
}

TEST_CASE("nbd_request: the_payload_is_known_whatever_else_is_wrong") {
  CHECK(payload_bytes(raw(Command::write, 0, 4096), false) == 4096);
  CHECK(payload_bytes(raw(Command::read, 0, 4096), false) == 0);
  CHECK(payload_bytes(raw(Command::write, 0, 4096), true) == 0);
  CHECK(payload_bytes(raw(Command::block_status, 0, 4096, kPayloadLength), true) == 4096);
}

TEST_CASE("nbd_request: ranges_are_inside_the_export") {
  CHECK(judge(raw(Command::read, 0, 512)) == Error::none);
  CHECK(judge(raw(Command::read, kDisk.size - 512, 512)) == Error::none);
  CHECK(judge(raw(Command::read, kDisk.size, 512)) == Error::invalid);
  CHECK(judge(raw(Command::read, kDisk.size - 512, 1024)) == Error::invalid);
  CHECK(judge(raw(Command::write, kDisk.size, 512)) == Error::no_space);
  CHECK(judge(raw(Command::trim, UINT64_MAX - 511, 1024)) == Error::no_space);
  CHECK(judge(raw(Command::write_zeroes, 0, kDisk.size)) == Error::none);
  CHECK(judge(raw(Command::read, 0, 0)) == Error::invalid);
  CHECK(judge(raw(Command::read, 256, 512)) == Error::invalid);
  CHECK(judge(raw(Command::read, 0, 513)) == Error::invalid);
  CHECK(judge(raw(Command::read, 0, kDisk.block_max + 512)) == Error::overflow);
  CHECK(judge(raw(Command::block_status, 0, kDisk.size)) == Error::none);
}

TEST_CASE("nbd_request: flags_belong_to_their_commands") {
  CHECK(judge(raw(Command::write, 0, 512, kFua)) == Error::none);
  CHECK(judge(raw(Command::read, 0, 512, kFua)) == Error::invalid);
  CHECK(judge(raw(Command::read, 0, 512, kDf)) == Error::none);
  CHECK(judge(raw(Command::read, 0, 512, kDf), kPlain) == Error::invalid);
  CHECK(judge(raw(Command::write_zeroes, 0, 512, kFua | kNoHole | kFastZero)) == Error::none);
  CHECK(judge(raw(Command::trim, 0, 512, kNoHole)) == Error::invalid);
  CHECK(judge(raw(Command::block_status, 0, 512, kReqOne)) == Error::none);
  CHECK(judge(raw(Command::flush, 0, 0, kFua)) == Error::invalid);
  CHECK(judge(raw(Command::write, 0, 512, kPayloadLength)) == Error::invalid);
  CHECK(judge(raw(Command::write, 0, 512, kPayloadLength), kExtended) == Error::none);
  CHECK(judge(raw(Command::write, 0, 512), kExtended) == Error::invalid);
}

TEST_CASE("nbd_request: what_was_not_offered_is_refused") {
  ExportFacts disk = kDisk;
  disk.flags = kHasFlags | kReadOnly;
  CHECK(judge(raw(Command::write, 0, 512), kStructured, disk) == Error::not_permitted);
  CHECK(judge(raw(Command::write_zeroes, 0, 512), kStructured, disk) == Error::not_permitted);
  CHECK(judge(raw(Command::trim, 0, 512), kStructured, disk) == Error::not_permitted);
  CHECK(judge(raw(Command::flush, 0, 0), kStructured, disk) == Error::invalid);
  disk.flags = kHasFlags;
  CHECK(judge(raw(Command::trim, 0, 512), kStructured, disk) == Error::invalid);
  CHECK(judge(raw(Command::cache, 0, 512), kStructured, disk) == Error::invalid);
  CHECK(judge(raw(Command::block_status, 0, 512), kPlain) == Error::invalid);
  CHECK(judge(raw(static_cast<Command>(8), 0, 512)) == Error::invalid);
  CHECK(judge(raw(static_cast<Command>(0xffff), 0, 512)) == Error::invalid);
}

}  // namespace
}  // namespace ringdisk::nbd
