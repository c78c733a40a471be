// SPDX-License-Identifier: Apache-2.0
#include "protocol/decode.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>

#include "blkif_structs.h"

namespace ringdisk {
namespace {

constexpr uint64_t kId = 0x1122'3344'5566'7788;
constexpr uint64_t kSector = 0x99aa'bbcc'ddee'ff01;

template <typename T>
Request decoded(Abi abi, const T& wire_request) {
  std::array<std::byte, wire::kEntryBytesMax> bytes;
  bytes.fill(std::byte{0xee});  // what a 32-bit entry leaves over is nobody's
  std::memcpy(bytes.data(), &wire_request, sizeof wire_request);
  return decode(abi, bytes);
}

template <typename ReadWrite>
void check_read_write(Abi abi, uint8_t operation) {
  ReadWrite sent{};
  sent.operation = operation;
  sent.nr_segments = 11;
  sent.handle = 0xffff;
  sent.id = kId;
  sent.sector_number = kSector;
  for (uint8_t i = 0; i < 11; i++) sent.seg[i] = {0xa000'0000u + i, i, uint8_t(i + 1), 0xffff};
  const Request got = decoded(abi, sent);
  CHECK(got.operation == operation);
  CHECK(got.segment_count == 11);
  CHECK(got.guest_id == kId);
  CHECK(got.sector == kSector);
  for (uint8_t i = 0; i < 11; i++) {
    CHECK(got.segments[i].gref == 0xa000'0000u + i);
    CHECK(got.segments[i].first_sect == i);
    CHECK(got.segments[i].last_sect == i + 1);
  }
}

template <typename Discard>
void check_discard(Abi abi) {
  Discard sent{};
  sent.operation = 5;
  sent.flag = 1;
  sent.handle = 0xffff;
  sent.id = kId;
  sent.sector_number = kSector;
  sent.nr_sectors = 0x0102'0304'0506'0708;
  const Request got = decoded(abi, sent);
  CHECK(got.operation == 5);
  CHECK(got.discard_flag == 1);
  CHECK(got.segment_count == 0);
  CHECK(got.guest_id == kId);
  CHECK(got.sector == kSector);
  CHECK(got.discard_sectors == 0x0102'0304'0506'0708);
}

template <typename Indirect>
void check_indirect(Abi abi) {
  Indirect sent{};
  sent.operation = 6;
  sent.indirect_op = 1;
  sent.nr_segments = 0x1234;
  sent.handle = 0xffff;
  sent.id = kId;
  sent.sector_number = kSector;
  for (uint32_t i = 0; i < 8; i++) sent.indirect_grefs[i] = 0xb000'0000u + i;
  const Request got = decoded(abi, sent);
  CHECK(got.operation == 6);
  CHECK(got.indirect_operation == 1);
  CHECK(got.segment_count == 0x1234);
  CHECK(got.guest_id == kId);
  CHECK(got.sector == kSector);
  CHECK(got.indirect_gref == 0xb000'0000u);
}

TEST_CASE("decode: every operation with segments, 64-bit frontend") {
  for (const int operation : {0, 1, 2, 3})
    check_read_write<xen_abi::x86_64::ReadWrite>(Abi::x86_64, static_cast<uint8_t>(operation));
}

TEST_CASE("decode: every operation with segments, 32-bit frontend") {
  for (const int operation : {0, 1, 2, 3})
    check_read_write<xen_abi::x86_32::ReadWrite>(Abi::x86_32, static_cast<uint8_t>(operation));
}

TEST_CASE("decode: discard") {
  check_discard<xen_abi::x86_64::Discard>(Abi::x86_64);
  check_discard<xen_abi::x86_32::Discard>(Abi::x86_32);
}

TEST_CASE("decode: indirect") {
  check_indirect<xen_abi::x86_64::Indirect>(Abi::x86_64);
  check_indirect<xen_abi::x86_32::Indirect>(Abi::x86_32);
}

TEST_CASE("decode: an unknown operation keeps the id to answer with") {
  for (int operation = 7; operation < 256; operation++) {
    xen_abi::x86_64::ReadWrite sent64{};
    sent64.operation = static_cast<uint8_t>(operation);
    sent64.id = kId;
    CHECK(decoded(Abi::x86_64, sent64).guest_id == kId);
    xen_abi::x86_32::ReadWrite sent32{};
    sent32.operation = static_cast<uint8_t>(operation);
    sent32.id = kId;
    CHECK(decoded(Abi::x86_32, sent32).guest_id == kId);
  }
}

TEST_CASE("decode: an answer names the operation inside an indirect request") {
  Request request;
  request.operation = wire::kIndirect;
  request.indirect_operation = wire::kWrite;
  CHECK(request.answered_operation() == wire::kWrite);
  request.operation = wire::kDiscard;
  CHECK(request.answered_operation() == wire::kDiscard);
}

}  // namespace
}  // namespace ringdisk
