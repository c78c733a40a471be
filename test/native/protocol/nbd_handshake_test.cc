// SPDX-License-Identifier: Apache-2.0
// What servers may say before the first request, and what a client makes of it.
#include "protocol/nbd_handshake.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace ringdisk::nbd {
namespace {

using Bytes = std::vector<std::byte>;
using State = Handshake::State;

Bytes greeting(uint16_t flags = kFixedNewstyle | kNoZeroes, uint64_t style = kOptionMagic) {
  Bytes bytes;
  Writer(bytes).number(kGreeting).number(style).number(flags);
  return bytes;
}

Bytes reply(Option option, OptionReply type, const Bytes& data = {}) {
  Bytes bytes;
  Writer(bytes).number(kOptionReplyMagic).number(static_cast<uint32_t>(option));
  Writer(bytes).number(static_cast<uint32_t>(type)).number(static_cast<uint32_t>(data.size()));
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

Bytes export_info(uint64_t size, uint16_t flags) {
  Bytes data;
  Writer(data).number(static_cast<uint16_t>(Info::export_)).number(size).number(flags);
  return reply(Option::go, OptionReply::info, data);
}

Bytes block_info(uint32_t least, uint32_t preferred, uint32_t most) {
  Bytes data;
  Writer(data).number(static_cast<uint16_t>(Info::block_size)).number(least).number(preferred);
  Writer(data).number(most);
  return reply(Option::go, OptionReply::info, data);
}

Bytes text(const std::string& words) {
  Bytes bytes;
  Writer(bytes).text(words);
  return bytes;
}

Bytes join(const std::vector<Bytes>& all) {
  Bytes bytes;
  for (const Bytes& one : all) bytes.insert(bytes.end(), one.begin(), one.end());
  return bytes;
}

// What a server says, in pieces of this many bytes.
Handshake run(const Bytes& said, size_t piece = 1000, const std::string& name = "disk") {
  Handshake handshake(name);
  Bytes in;
  Bytes out;
  for (size_t at = 0; at < said.size(); at += piece) {
    in.insert(in.end(), said.begin() + static_cast<ptrdiff_t>(at),
              said.begin() + static_cast<ptrdiff_t>(std::min(at + piece, said.size())));
    const size_t taken = handshake.feed(in, out);
    in.erase(in.begin(), in.begin() + static_cast<ptrdiff_t>(taken));
  }
  if (handshake.state() == State::agreed) CHECK(in.empty());
  return handshake;
}

const Bytes kAcked = reply(Option::structured_reply, OptionReply::ack);
const Bytes kGo = reply(Option::go, OptionReply::ack);

TEST_CASE("an NBD server tells of its export, whole or in pieces") {
  const Bytes said = join({greeting(), kAcked, export_info(1 << 20, kHasFlags | kSendFlush),
                           block_info(512, 65536, 1 << 20), kGo});
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1000}}) {
    const Handshake done = run(said, piece);
    REQUIRE(done.state() == State::agreed);
    CHECK(done.facts().size == 1 << 20);
    CHECK(done.facts().flags == (kHasFlags | kSendFlush));
    CHECK(done.facts().structured);
    CHECK(done.facts().block_min == 512);
    CHECK(done.facts().block_preferred == 65536);
    CHECK(done.facts().block_max == 1 << 20);
  }
}

TEST_CASE("an NBD server without structured replies and block sizes") {
  const Handshake done =
      run(join({greeting(kFixedNewstyle), reply(Option::structured_reply, OptionReply::unsupported),
                export_info(4096, kHasFlags), kGo}));
  REQUIRE(done.state() == State::agreed);
  CHECK_FALSE(done.facts().structured);
  CHECK(done.facts().block_min == 512);
  CHECK(done.facts().block_max == 32u << 20);
}

TEST_CASE("what a client says to an NBD server") {
  Handshake handshake("disk");
  Bytes out;
  handshake.feed(join({greeting(), kAcked}), out);
  Bytes expected;
  Writer(expected).number(uint32_t{kFixedNewstyle | kNoZeroes});
  Writer(expected).number(kOptionMagic).number(uint32_t{8}).number(uint32_t{0});
  Writer(expected).number(kOptionMagic).number(uint32_t{7}).number(uint32_t{12});
  Writer(expected).number(uint32_t{4}).text("disk").number(uint16_t{1}).number(uint16_t{3});
  CHECK(out == expected);
}

TEST_CASE("an NBD server that is none, or not as it should be, is refused") {
  const auto why = [](const std::vector<Bytes>& said) {
    const Handshake done = run(join(said));
    CHECK(done.state() == State::refused);
    return done.why();
  };
  const Bytes info = export_info(4096, kHasFlags);
  Bytes http = text("HTTP/1.1 400 Bad Request\r\n");
  CHECK(why({http}) == "does not speak NBD");
  CHECK(why({greeting(0)}) == "is too old: it does not know the fixed new style");
  CHECK(why({greeting(0, 0x0000420281861253)}) ==
        "speaks the protocol's old style, which knows no names of exports");
  CHECK(why({greeting(3, 1)}) == "does not speak NBD as it is known");
  const std::string no_answer = "answers an option with what is no answer to it";
  CHECK(why({greeting(), Bytes(20)}) == no_answer);
  CHECK(why({greeting(), reply(Option::go, OptionReply::ack)}) == no_answer);
  CHECK(why({greeting(), reply(Option::structured_reply, OptionReply::info)}) ==
        "answers an option wrongly");
  CHECK(why({greeting(), kAcked, kGo}) == "does not tell the size of the export");
  CHECK(why({greeting(), kAcked, export_info(4096, 0), kGo}) ==
        "does not tell what the export can");
  CHECK(why({greeting(), kAcked, export_info(UINT64_MAX, kHasFlags), kGo}) ==
        "tells a size that cannot be");
  CHECK(why({greeting(), kAcked, info, block_info(0, 4096, 4096), kGo}) ==
        "tells sizes of blocks that cannot be");
  CHECK(why({greeting(), kAcked, info, block_info(4096, 512, 4096), kGo}) ==
        "tells sizes of blocks that cannot be");
  CHECK(why({greeting(), kAcked, info, block_info(512, 4096, 512), kGo}) ==
        "tells sizes of blocks that cannot be");
  CHECK(why({greeting(), kAcked, reply(Option::go, OptionReply::info, Bytes(1))}) ==
        "tells nothing where it should tell of the export");
  CHECK(why({greeting(), kAcked, reply(Option::go, OptionReply::server)}) ==
        "answers an option wrongly");
}

TEST_CASE("an NBD server's refusals come in its own words, made fit to print") {
  const auto refused = [](OptionReply type, const std::string& words, const std::string& name) {
    return run(join({greeting(), kAcked, reply(Option::go, type, text(words))}), 1000, name).why();
  };
  CHECK(refused(OptionReply::unknown, "", "disk") == "has no export \"disk\"");
  CHECK(refused(OptionReply::unknown, "", "") == "has no export without a name");
  CHECK(refused(OptionReply::invalid, "no\n\x1b[2Jway", "disk") ==
        "refuses the export: no??[2Jway");
  CHECK(refused(OptionReply::too_big, "", "disk") == "refuses the export");
  CHECK(refused(OptionReply::invalid, std::string(5000, 'a'), "disk").size() < 300);
}

TEST_CASE("an NBD server that never comes to the point is refused") {
  Bytes endless = join({greeting(), kAcked});
  for (int i = 0; i < 100; i++) {
    const Bytes more = export_info(4096, kHasFlags);
    endless.insert(endless.end(), more.begin(), more.end());
  }
  CHECK(run(endless).state() == State::refused);
  Bytes huge = greeting();
  Writer(huge).number(kOptionReplyMagic).number(uint32_t{8}).number(uint32_t{1});
  Writer(huge).number(UINT32_MAX);
  CHECK(run(huge).state() == State::refused);
}

}  // namespace
}  // namespace ringdisk::nbd
