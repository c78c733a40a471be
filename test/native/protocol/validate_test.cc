// SPDX-License-Identifier: Apache-2.0
#include "protocol/validate.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace ringdisk {
namespace {

constexpr uint64_t kCapacity = 1000;
constexpr Geometry kDisk{kCapacity, kIndirectSegmentsMax, false, true, true};

Segment segment(uint8_t first, uint8_t last) { return {1, first, last, 0}; }
std::vector<Segment> pages(size_t count) { return std::vector<Segment>(count, segment(0, 7)); }

Request request(uint8_t operation, uint64_t sector, size_t segments) {
  Request made;
  made.operation = operation;
  made.sector = sector;
  made.segment_count = static_cast<uint16_t>(segments);
  return made;
}

Request indirect(uint8_t operation, uint64_t sector, size_t segments) {
  Request made = request(wire::kIndirect, sector, segments);
  made.indirect_operation = operation;
  return made;
}

Request discard(uint64_t sector, uint64_t sectors, uint8_t flag = 0) {
  Request made = request(wire::kDiscard, sector, 0);
  made.discard_sectors = sectors;
  made.discard_flag = flag;
  return made;
}

Rejection judge(const Request& what, const std::vector<Segment>& segments,
                const Geometry& disk = kDisk) {
  ValidRequest valid;
  return validate(what, segments, disk, valid);
}

ValidRequest accepted(const Request& what, const std::vector<Segment>& segments,
                      const Geometry& disk = kDisk) {
  ValidRequest valid;
  REQUIRE(validate(what, segments, disk, valid) == Rejection::none);
  return valid;
}

constexpr uint8_t kDataOperations[] = {wire::kRead, wire::kWrite, wire::kWriteBarrier,
                                       wire::kFlushDiskcache};

TEST_CASE("validate: accepts_1_to_11_segments_of_reads_and_writes") {
  for (const uint8_t operation : {wire::kRead, wire::kWrite}) {
    CHECK(judge(request(operation, 0, 0), {}) == Rejection::segment_count);
    CHECK(judge(request(operation, 0, 1), pages(1)) == Rejection::none);
    CHECK(judge(request(operation, 0, 11), pages(11)) == Rejection::none);
    CHECK(judge(request(operation, 0, 12), pages(12)) == Rejection::segment_count);
    CHECK(judge(request(operation, 0, 255), pages(255)) == Rejection::segment_count);
  }
}

TEST_CASE("validate: accepts_0_to_11_segments_of_barriers_and_flushes") {
  for (const uint8_t operation : {wire::kWriteBarrier, wire::kFlushDiskcache}) {
    CHECK(judge(request(operation, 0, 0), {}) == Rejection::none);
    CHECK(judge(request(operation, 0, 11), pages(11)) == Rejection::none);
    CHECK(judge(request(operation, 0, 12), pages(12)) == Rejection::segment_count);
    CHECK(judge(request(operation, 0, 255), pages(255)) == Rejection::segment_count);
  }
}

TEST_CASE("validate: accepts_1_to_256_indirect_segments") {
  constexpr Geometry kBig{1u << 20, kIndirectSegmentsMax, false, false, false};
  for (const uint8_t operation : {wire::kRead, wire::kWrite}) {
    CHECK(judge(indirect(operation, 0, 0), {}, kBig) == Rejection::segment_count);
    CHECK(judge(indirect(operation, 0, 1), pages(1), kBig) == Rejection::none);
    CHECK(judge(indirect(operation, 0, 11), pages(11), kBig) == Rejection::none);
    CHECK(judge(indirect(operation, 0, 256), pages(256), kBig) == Rejection::none);
    CHECK(check_segment_count(indirect(operation, 0, 257), kBig) == Rejection::segment_count);
    CHECK(check_segment_count(indirect(operation, 0, 65535), kBig) == Rejection::segment_count);
  }
}

TEST_CASE("validate: bounds_indirect_segments_by_what_was_agreed") {
  Geometry disk = kDisk;
  disk.indirect_segments_max = 32;
  CHECK(judge(indirect(wire::kRead, 0, 32), pages(32), disk) == Rejection::none);
  CHECK(check_segment_count(indirect(wire::kRead, 0, 33), disk) == Rejection::segment_count);
  disk.indirect_segments_max = 0;
  CHECK(check_segment_count(indirect(wire::kRead, 0, 1), disk) == Rejection::unknown_operation);
}

TEST_CASE("validate: rejects_indirect_of_anything_but_read_and_write") {
  for (int operation = 2; operation < 256; operation++)
    CHECK(judge(indirect(static_cast<uint8_t>(operation), 0, 1), pages(1)) ==
          Rejection::indirect_operation);
}

TEST_CASE("validate: rejects_unknown_operations_as_unsupported") {
  for (int operation = 0; operation < 256; operation++) {
    if (operation <= 3 || operation == 5 || operation == 6) continue;
    const Rejection rejection = judge(request(static_cast<uint8_t>(operation), 0, 1), pages(1));
    CHECK(rejection == Rejection::unknown_operation);
    CHECK(is_unsupported(rejection));
  }
}

TEST_CASE("validate: rejects_last_sect_past_page") {
  for (const uint8_t operation : kDataOperations) {
    CHECK(judge(request(operation, 0, 1), {segment(0, 7)}) == Rejection::none);
    CHECK(judge(request(operation, 0, 1), {segment(0, 8)}) == Rejection::segment_sectors);
    CHECK(judge(request(operation, 0, 1), {segment(0, 255)}) == Rejection::segment_sectors);
    CHECK(judge(request(operation, 0, 1), {segment(8, 8)}) == Rejection::segment_sectors);
    CHECK(judge(request(operation, 0, 1), {segment(255, 255)}) == Rejection::segment_sectors);
  }
}

TEST_CASE("validate: rejects_first_sect_after_last_sect") {
  for (const uint8_t operation : kDataOperations) {
    CHECK(judge(request(operation, 0, 1), {segment(3, 3)}) == Rejection::none);
    CHECK(judge(request(operation, 0, 1), {segment(4, 3)}) == Rejection::segment_sectors);
    CHECK(judge(request(operation, 0, 1), {segment(255, 0)}) == Rejection::segment_sectors);
  }
}

TEST_CASE("validate: checks_every_segment") {
  for (size_t bad = 0; bad < 256; bad++) {
    std::vector<Segment> segments(256, segment(0, 0));
    segments[bad].last_sect = 8;
    CHECK(judge(indirect(wire::kWrite, 0, 256), segments) == Rejection::segment_sectors);
  }
}

TEST_CASE("validate: counts_sectors_of_all_segments") {
  const ValidRequest valid =
      accepted(request(wire::kWrite, 7, 3), {segment(0, 7), segment(2, 2), segment(7, 7)});
  CHECK(valid.kind == ValidRequest::Kind::write);
  CHECK(valid.pages == 3);
  CHECK(valid.sector == 7);
  CHECK(valid.sector_count == 10);
}

TEST_CASE("validate: rejects_data_beyond_the_last_sector") {
  for (const uint8_t operation : kDataOperations) {
    CHECK(judge(request(operation, kCapacity - 9, 1), pages(1)) == Rejection::none);
    CHECK(judge(request(operation, kCapacity - 8, 1), pages(1)) == Rejection::none);
    CHECK(judge(request(operation, kCapacity - 7, 1), pages(1)) == Rejection::beyond_capacity);
    CHECK(judge(request(operation, kCapacity - 1, 1), {segment(5, 5)}) == Rejection::none);
    CHECK(judge(request(operation, kCapacity, 1), {segment(5, 5)}) == Rejection::beyond_capacity);
    CHECK(judge(request(operation, kCapacity + 1, 1), pages(1)) == Rejection::beyond_capacity);
  }
}

TEST_CASE("validate: rejects_sectors_that_wrap_at_2_to_the_64") {
  for (const uint64_t back : {1u, 7u, 8u, 9u, 88u}) {
    const uint64_t sector = UINT64_MAX - back + 1;
    for (const uint8_t operation : kDataOperations)
      CHECK(judge(request(operation, sector, 11), pages(11)) == Rejection::beyond_capacity);
    CHECK(judge(discard(sector, back), {}) == Rejection::beyond_capacity);
    CHECK(judge(discard(sector, back + 1), {}) == Rejection::beyond_capacity);
  }
  // Sectors whose byte offset wraps: 2^55 x 512 = 2^64.
  CHECK(judge(request(wire::kRead, 1ull << 55, 1), pages(1)) == Rejection::beyond_capacity);
}

TEST_CASE("validate: accepts_nothing_on_a_disk_of_0_sectors") {
  const Geometry none{};
  CHECK(judge(request(wire::kRead, 0, 1), {segment(0, 0)}, none) == Rejection::beyond_capacity);
  CHECK(judge(request(wire::kFlushDiskcache, 0, 0), {}, none) == Rejection::none);
}

TEST_CASE("validate: rejects_every_change_of_a_read_only_disk") {
  Geometry disk = kDisk;
  disk.read_only = true;
  CHECK(judge(request(wire::kRead, 0, 1), pages(1), disk) == Rejection::none);
  CHECK(judge(request(wire::kWrite, 0, 1), pages(1), disk) == Rejection::read_only);
  CHECK(judge(request(wire::kWriteBarrier, 0, 1), pages(1), disk) == Rejection::read_only);
  CHECK(judge(request(wire::kFlushDiskcache, 0, 1), pages(1), disk) == Rejection::read_only);
  CHECK(judge(indirect(wire::kWrite, 0, 1), pages(1), disk) == Rejection::read_only);
  CHECK(judge(discard(0, 8), {}, disk) == Rejection::read_only);
  CHECK_FALSE(is_unsupported(Rejection::read_only));
}

TEST_CASE("validate: an_empty_flush_or_barrier_is_always_accepted") {
  Geometry disk = kDisk;
  disk.read_only = true;
  for (const uint8_t operation : {wire::kWriteBarrier, wire::kFlushDiskcache})
    for (const uint64_t sector : {uint64_t{0}, kCapacity, UINT64_MAX}) {
      const ValidRequest valid = accepted(request(operation, sector, 0), {}, disk);
      CHECK(valid.sector == 0);
      CHECK(valid.sector_count == 0);
    }
}

TEST_CASE("validate: a_flush_with_data_is_a_barrier") {
  CHECK(accepted(request(wire::kFlushDiskcache, 0, 0), {}).kind == ValidRequest::Kind::flush);
  CHECK(accepted(request(wire::kFlushDiskcache, 0, 1), pages(1)).kind ==
        ValidRequest::Kind::barrier);
}

TEST_CASE("validate: rejects_discards_outside_the_disk_or_empty") {
  CHECK(judge(discard(0, 0), {}) == Rejection::empty);
  CHECK(judge(discard(0, 1), {}) == Rejection::none);
  CHECK(judge(discard(0, kCapacity), {}) == Rejection::none);
  CHECK(judge(discard(0, kCapacity + 1), {}) == Rejection::beyond_capacity);
  CHECK(judge(discard(kCapacity - 1, 1), {}) == Rejection::none);
  CHECK(judge(discard(kCapacity, 1), {}) == Rejection::beyond_capacity);
  CHECK(judge(discard(1, UINT64_MAX), {}) == Rejection::beyond_capacity);
  const ValidRequest valid = accepted(discard(3, 20), {});
  CHECK(valid.kind == ValidRequest::Kind::discard);
  CHECK(valid.sector == 3);
  CHECK(valid.sector_count == 20);
  CHECK_FALSE(valid.secure);
}

TEST_CASE("validate: rejects_discards_that_were_not_offered_as_unsupported") {
  Geometry disk = kDisk;
  disk.secure_discard = false;
  CHECK(judge(discard(0, 8), {}, disk) == Rejection::none);
  CHECK(judge(discard(0, 8, wire::kDiscardSecure), {}, disk) == Rejection::discard_unsupported);
  CHECK(accepted(discard(0, 8, 0xff), {}).secure);
  disk.discard = false;
  CHECK(judge(discard(0, 8), {}, disk) == Rejection::discard_unsupported);
  CHECK(is_unsupported(Rejection::discard_unsupported));
}

TEST_CASE("validate: every_rejection_has_words_of_its_own") {
  for (int i = 0; i <= static_cast<int>(Rejection::bad_grant); i++)
    for (int j = 0; j < i; j++)
      CHECK(std::string(to_string(Rejection(i))) != to_string(Rejection(j)));
}

}  // namespace
}  // namespace ringdisk
