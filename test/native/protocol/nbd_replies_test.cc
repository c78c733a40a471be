// SPDX-License-Identifier: Apache-2.0
// What servers answer, and lie.
#include "protocol/nbd_replies.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace ringdisk::nbd {
namespace {

using Bytes = std::vector<std::byte>;
using What = Replies::Step::What;

Bytes simple(uint64_t cookie, Error error = Error::none) {
  Bytes bytes;
  Writer(bytes).number(kSimpleReplyMagic).number(static_cast<uint32_t>(error)).number(cookie);
  return bytes;
}

Bytes chunk(uint64_t cookie, Chunk type, uint32_t length, bool is_last = false) {
  Bytes bytes;
  Writer(bytes).number(kStructuredReplyMagic).number(static_cast<uint16_t>(is_last ? 1 : 0));
  Writer(bytes).number(static_cast<uint16_t>(type)).number(cookie).number(length);
  return bytes;
}

Bytes data(uint64_t cookie, uint64_t offset, uint32_t length, bool is_last = false) {
  Bytes bytes = chunk(cookie, Chunk::offset_data, length + 8, is_last);
  Writer(bytes).number(offset);
  return bytes;
}

Bytes hole(uint64_t cookie, uint64_t offset, uint32_t length, bool is_last = false) {
  Bytes bytes = chunk(cookie, Chunk::offset_hole, 12, is_last);
  Writer(bytes).number(offset).number(length);
  return bytes;
}

Bytes error(uint64_t cookie, Error which, bool is_last = true) {
  Bytes bytes = chunk(cookie, Chunk::error, 8, is_last);
  Writer(bytes).number(static_cast<uint32_t>(which)).number(uint16_t{2}).text("no");
  return bytes;
}

struct Asked {
  Replies replies{4};
  uint32_t tag;
  uint64_t cookie;
  Asked(bool is_read, uint64_t offset, uint32_t length)
      : tag(replies.begin(is_read, offset, length)), cookie(replies.cookie(tag)) {}
  What what(const Bytes& said) { return replies.next(said).what; }
  std::string lie(const Bytes& said) {
    const Replies::Step step = replies.next(said);
    return step.what == What::broken ? step.why : "believed";
  }
};

TEST_CASE("an NBD server's simple replies") {
  Asked write(false, 0, 4096);
  Replies::Step step = write.replies.next(simple(write.cookie, Error::no_space));
  CHECK(step.what == What::finished);
  CHECK(step.tag == write.tag);
  CHECK(step.taken == 16);
  CHECK(step.error == Error::no_space);
  CHECK(write.replies.in_flight() == 0);

  Asked read(true, 8192, 4096);
  CHECK(read.what(Bytes(15)) == What::more);
  step = read.replies.next(simple(read.cookie));
  CHECK(step.what == What::data);
  CHECK(step.at == 0);
  CHECK(step.length == 4096);
  CHECK(read.replies.in_flight() == 1);
  step = read.replies.next({});
  CHECK(step.what == What::finished);
  CHECK(step.taken == 0);
  CHECK(step.error == Error::none);
}

TEST_CASE("an NBD server's structured replies, in any order") {
  Asked read(true, 8192, 4096);
  Replies::Step step = read.replies.next(data(read.cookie, 8192 + 1024, 1024));
  CHECK(step.what == What::data);
  CHECK(step.taken == 28);
  CHECK(step.at == 1024);
  CHECK(step.length == 1024);
  step = read.replies.next(hole(read.cookie, 8192 + 2048, 2048));
  CHECK(step.what == What::zeroes);
  CHECK(step.taken == 32);
  CHECK(step.at == 2048);
  CHECK(step.length == 2048);
  CHECK(read.what(data(read.cookie, 8192, 1024)) == What::data);
  step = read.replies.next(chunk(read.cookie, Chunk::none, 0, true));
  CHECK(step.what == What::finished);
  CHECK(step.error == Error::none);
}

TEST_CASE("an NBD server's last data ends the read behind it") {
  Asked read(true, 0, 512);
  CHECK(read.what(data(read.cookie, 0, 512, true)) == What::data);
  CHECK(read.what({}) == What::finished);
  CHECK(read.replies.in_flight() == 0);
}

TEST_CASE("an NBD server's errors in pieces of an answer") {
  Asked read(true, 0, 4096);
  CHECK(read.what(data(read.cookie, 0, 512)) == What::data);
  Replies::Step step = read.replies.next(error(read.cookie, Error::io, false));
  CHECK(step.what == What::more);
  CHECK(step.taken == 28);
  step = read.replies.next(chunk(read.cookie, Chunk::none, 0, true));
  CHECK(step.what == What::finished);
  CHECK(step.error == Error::io);
  Asked none(true, 0, 512);
  CHECK(none.replies.next(error(none.cookie, Error::none)).error == Error::io);
}

TEST_CASE("an NBD server that lies is found out") {
  const std::string unasked = "an answer to what was not asked";
  CHECK(Asked(true, 0, 512).lie(Bytes(16)) == "an answer that begins as none does");
  CHECK(Asked(true, 0, 512).lie(simple(4711)) == unasked);
  CHECK(Asked(true, 0, 512).lie(chunk(1, Chunk::none, 0)) == unasked);
  // A second answer, and one to the request that had its tag before.
  Asked twice(false, 0, 512);
  CHECK(twice.what(simple(twice.cookie)) == What::finished);
  CHECK(twice.lie(simple(twice.cookie)) == unasked);
  CHECK(twice.replies.begin(false, 0, 512) == twice.tag);
  CHECK(twice.lie(simple(twice.cookie)) == unasked);

  const auto lie = [](const auto& say) {
    Asked read(true, 4096, 4096);
    return read.lie(say(read.cookie));
  };
  const std::string beyond = "data beyond what was asked for";
  CHECK(lie([](uint64_t c) { return data(c, 0, 512); }) == beyond);
  CHECK(lie([](uint64_t c) { return data(c, 8192, 512); }) == beyond);
  CHECK(lie([](uint64_t c) { return data(c, 8191, 512); }) == beyond);
  CHECK(lie([](uint64_t c) { return data(c, 4096, 4097); }) == beyond);
  CHECK(lie([](uint64_t c) { return data(c, UINT64_MAX, 512); }) == beyond);
  CHECK(lie([](uint64_t c) { return hole(c, 4096, 0); }) == beyond);
  CHECK(lie([](uint64_t c) { return hole(c, 4096, UINT32_MAX); }) == beyond);
  CHECK(lie([](uint64_t c) { return chunk(c, Chunk::offset_data, 8); }) == "data of no length");
  CHECK(lie([](uint64_t c) { return chunk(c, Chunk::offset_hole, UINT32_MAX); }) ==
        "an answer that is too long");
  CHECK(lie([](uint64_t c) { return chunk(c, Chunk::none, 0, true); }) ==
        "a read of which not all came");

  Asked overlaps(true, 0, 4096);
  CHECK(overlaps.what(data(overlaps.cookie, 0, 1024)) == What::data);
  CHECK(overlaps.lie(data(overlaps.cookie, 512, 1024)) ==
        "the same data twice, or in pieces without order");
  Asked writes(false, 0, 4096);
  CHECK(writes.lie(data(writes.cookie, 0, 512)) == "data where none was asked for");
}

// The memory may hold what others have read: a gap is not filled by saying something else twice.
TEST_CASE("what has come of a read is told from what has not") {
  Coverage coverage;
  CHECK(coverage.add(10, 20));
  CHECK(coverage.add(30, 40));
  CHECK_FALSE(coverage.add(15, 25));
  CHECK_FALSE(coverage.add(5, 15));
  CHECK_FALSE(coverage.add(10, 20));
  CHECK_FALSE(coverage.add(0, 50));
  CHECK_FALSE(coverage.add(20, 31));
  CHECK(coverage.add(20, 30));
  CHECK_FALSE(coverage.is_whole(40));
  CHECK(coverage.add(0, 10));
  CHECK(coverage.is_whole(40));
  CHECK_FALSE(coverage.is_whole(41));
  Coverage pieces;
  uint32_t count = 0;
  while (pieces.add(count * 10, count * 10 + 5)) count++;
  CHECK(count >= 4);
  CHECK(pieces.add(5, 10));
}

}  // namespace
}  // namespace ringdisk::nbd
