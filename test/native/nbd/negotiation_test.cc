// SPDX-License-Identifier: Apache-2.0
#include "nbd/negotiation.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {
namespace {

using Bytes = std::vector<std::byte>;

const std::vector<ExportFacts> kExports = {
    {.name = "one",
     .description = "the first",
     .size = 1 << 20,
     .flags = kHasFlags | kSendFlush,
     .contexts = {{1, "base:allocation"}, {2, "qemu:dirty-bitmap:a"}, {3, "qemu:dirty-bitmap:b"}}},
    {.name = "two", .size = 2 << 20, .flags = kHasFlags}};

struct Reply {
  uint32_t option, type;
  std::string data;
};

// A client that says what it is told to and takes the answers apart.
class Client {
 public:
  explicit Client(const std::vector<ExportFacts>& exports = kExports,
                  uint32_t flags = kFixedNewstyle | kNoZeroes)
      : server_(exports, out_) {
    REQUIRE(out_.size() == 18);
    CHECK(get<uint64_t>(out_.data()) == kGreeting);
    CHECK(get<uint64_t>(out_.data() + 8) == kOptionMagic);
    CHECK(get<uint16_t>(out_.data() + 16) == (kFixedNewstyle | kNoZeroes));
    out_.clear();
    Bytes said;
    Writer(said).number(flags);
    say(said);
  }
  void say(const Bytes& bytes) {
    in_.insert(in_.end(), bytes.begin(), bytes.end());
    const size_t taken = server_.feed(in_, out_);
    in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(taken));
  }
  std::vector<Reply> ask(Option option, const Bytes& data = {}) {
    out_.clear();
    say(asked(option, data));
    return replies();
  }
  static Bytes asked(Option option, const Bytes& data) {
    Bytes bytes;
    Writer(bytes)
        .number(kOptionMagic)
        .number(static_cast<uint32_t>(option))
        .number(static_cast<uint32_t>(data.size()));
    bytes.insert(bytes.end(), data.begin(), data.end());
    return bytes;
  }
  std::vector<Reply> replies() const {
    std::vector<Reply> found;
    for (size_t at = 0; at < out_.size();) {
      REQUIRE(out_.size() - at >= 20);
      const std::byte* from = out_.data() + at;
      REQUIRE(get<uint64_t>(from) == kOptionReplyMagic);
      const uint32_t length = get<uint32_t>(from + 16);
      REQUIRE(out_.size() - at - 20 >= length);
      found.push_back({get<uint32_t>(from + 8),
                       get<uint32_t>(from + 12),
                       {reinterpret_cast<const char*>(from) + 20, length}});
      at += 20 + length;
    }
    return found;
  }
  const Negotiation& server() const { return server_; }
  const Bytes& out() const { return out_; }
  size_t left() const { return in_.size(); }

 private:
  Bytes in_, out_;
  Negotiation server_;
};

Bytes info_of(const std::string& name, const std::vector<uint16_t>& wishes = {}) {
  Bytes data;
  Writer(data).number(static_cast<uint32_t>(name.size())).text(name);
  Writer(data).number(static_cast<uint16_t>(wishes.size()));
  for (const uint16_t wish : wishes) Writer(data).number(wish);
  return data;
}

Bytes contexts_of(const std::string& name, const std::vector<std::string>& queries) {
  Bytes data;
  Writer(data).number(static_cast<uint32_t>(name.size())).text(name);
  Writer(data).number(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries)
    Writer(data).number(static_cast<uint32_t>(query.size())).text(query);
  return data;
}

uint32_t last_type(const std::vector<Reply>& replies) {
  REQUIRE(!replies.empty());
  return replies.back().type;
}
uint32_t number_of(OptionReply reply) { return static_cast<uint32_t>(reply); }

TEST_CASE("nbd_negotiation: go_tells_size_flags_and_block_sizes") {
  Client client;
  const auto replies = client.ask(Option::go, info_of("one", {1, 2}));
  REQUIRE(replies.size() == 5);
  const auto* data = reinterpret_cast<const std::byte*>(replies[0].data.data());
  CHECK(get<uint16_t>(data) == 0);
  CHECK(get<uint64_t>(data + 2) == 1 << 20);
  CHECK(get<uint16_t>(data + 10) == (kHasFlags | kSendFlush));
  CHECK(replies[1].data.substr(2) == "one");
  CHECK(replies[2].data.substr(2) == "the first");
  CHECK(replies[4].type == number_of(OptionReply::ack));
  CHECK(client.server().state() == Negotiation::State::agreed);
  CHECK(client.server().agreement().index == 0);
}

TEST_CASE("nbd_negotiation: info_goes_on_and_an_unknown_name_is_refused") {
  Client client;
  CHECK(last_type(client.ask(Option::info, info_of("two"))) == number_of(OptionReply::ack));
  CHECK(client.server().state() == Negotiation::State::options);
  CHECK(last_type(client.ask(Option::go, info_of("three"))) == number_of(OptionReply::unknown));
  CHECK(last_type(client.ask(Option::go, info_of(""))) == number_of(OptionReply::unknown));
  CHECK(last_type(client.ask(Option::go, info_of("two"))) == number_of(OptionReply::ack));
  CHECK(client.server().agreement().index == 1);
}

TEST_CASE("nbd_negotiation: the_empty_name_is_the_only_export") {
  const std::vector<ExportFacts> one = {kExports[1]};
  Client client(one);
  CHECK(last_type(client.ask(Option::go, info_of(""))) == number_of(OptionReply::ack));
}

TEST_CASE("nbd_negotiation: lists_what_there_is") {
  Client client;
  const auto replies = client.ask(Option::list);
  REQUIRE(replies.size() == 3);
  CHECK(replies[0].data.substr(4) == "onethe first");
  CHECK(replies[1].data.substr(4) == "two");
  CHECK(last_type(client.ask(Option::list, info_of("x"))) == number_of(OptionReply::invalid));
}

TEST_CASE("nbd_negotiation: the_old_way_ends_with_zeroes_where_they_are_wanted") {
  for (const bool wants_none : {true, false}) {
    Client client(kExports, wants_none ? kFixedNewstyle | kNoZeroes : uint32_t{kFixedNewstyle});
    Bytes name;
    Writer(name).text("two");
    client.say(Client::asked(Option::export_name, name));
    CHECK(client.out().size() == (wants_none ? 10 : 134));
    CHECK(client.server().state() == Negotiation::State::agreed);
  }
  Client client;
  client.say(Client::asked(Option::export_name, info_of("three")));
  CHECK(client.out().empty());
  CHECK(client.server().state() == Negotiation::State::over);
}

TEST_CASE("nbd_negotiation: contexts_are_chosen_by_their_whole_names") {
  Client client;
  const auto choose = [&](const std::vector<std::string>& queries) {
    return client.ask(Option::set_meta_context, contexts_of("one", queries));
  };
  CHECK(last_type(choose({"base:allocation"})) == number_of(OptionReply::invalid));
  client.ask(Option::structured_reply);
  CHECK(choose({"base:", "qemu:dirty-bitmap:", "other:x"}).size() == 1);
  const auto replies = choose({"base:allocation", "qemu:dirty-bitmap:b"});
  REQUIRE(replies.size() == 3);
  CHECK(replies[1].data.substr(4) == "qemu:dirty-bitmap:b");
  client.ask(Option::go, info_of("one"));
  CHECK(client.server().agreement().contexts == std::vector<uint32_t>{1, 3});
}

TEST_CASE("nbd_negotiation: contexts_of_another_export_are_not_its") {
  Client client;
  client.ask(Option::structured_reply);
  client.ask(Option::set_meta_context, contexts_of("one", {"base:allocation"}));
  client.ask(Option::go, info_of("two"));
  CHECK(client.server().agreement().contexts.empty());
}

TEST_CASE("nbd_negotiation: contexts_are_listed_by_their_beginnings") {
  Client client;
  client.ask(Option::structured_reply);
  const auto list = [&](const std::vector<std::string>& queries) {
    return client.ask(Option::list_meta_context, contexts_of("one", queries)).size() - 1;
  };
  CHECK(list({}) == 3);
  CHECK(list({"qemu:"}) == 2);
  CHECK(list({"qemu:dirty-bitmap:"}) == 2);
  CHECK(list({"base:allocation"}) == 1);
  CHECK(list({"qem"}) == 0);
}

TEST_CASE("nbd_negotiation: extended_headers_bring_structured_replies") {
  Client client;
  CHECK(last_type(client.ask(Option::extended_headers)) == number_of(OptionReply::ack));
  CHECK(last_type(client.ask(Option::structured_reply)) ==
        number_of(OptionReply::extended_headers_required));
  client.ask(Option::go, info_of("one"));
  CHECK(client.server().agreement().structured);
  CHECK(client.server().agreement().extended);
}

TEST_CASE("nbd_negotiation: a_byte_at_a_time_is_the_same") {
  Client client;
  Bytes all = Client::asked(Option::structured_reply, {});
  for (const std::byte one : Client::asked(Option::go, info_of("two"))) all.push_back(one);
  for (const std::byte one : all) client.say({one});
  CHECK(client.server().state() == Negotiation::State::agreed);
  CHECK(client.server().agreement().structured);
}

TEST_CASE("nbd_negotiation: what_comes_after_it_is_left_alone") {
  Client client;
  Bytes all = Client::asked(Option::go, info_of("two"));
  all.resize(all.size() + 5);
  client.say(all);
  CHECK(client.server().state() == Negotiation::State::agreed);
  CHECK(client.left() == 5);
}

TEST_CASE("nbd_negotiation: lengths_that_lie_are_refused") {
  Client client;
  client.ask(Option::structured_reply);
  Bytes data = info_of("one");
  data.resize(data.size() - 1);
  CHECK(last_type(client.ask(Option::go, data)) == number_of(OptionReply::invalid));
  Bytes many;
  Writer(many).number(uint32_t{3}).text("one").number(uint32_t{0xffffffff});
  CHECK(last_type(client.ask(Option::set_meta_context, many)) == number_of(OptionReply::invalid));
  CHECK(last_type(client.ask(Option::starttls)) == number_of(OptionReply::unsupported));
  CHECK(last_type(client.ask(static_cast<Option>(99))) == number_of(OptionReply::unsupported));
}

TEST_CASE("nbd_negotiation: an_option_that_is_too_long_is_passed_over") {
  Client client;
  const Bytes large(100'000);
  CHECK(last_type(client.ask(Option::info, large)) == number_of(OptionReply::too_big));
  CHECK(last_type(client.ask(Option::go, info_of("one"))) == number_of(OptionReply::ack));
}

TEST_CASE("nbd_negotiation: it_does_not_go_on_for_ever") {
  Client client;
  for (uint32_t i = 0; i < kOptionsMax; i++) {
    CHECK(client.server().state() == Negotiation::State::options);
    client.ask(Option::list);
  }
  client.ask(Option::list);
  CHECK(client.server().state() == Negotiation::State::over);
}

TEST_CASE("nbd_negotiation: a_stranger_is_not_talked_to") {
  CHECK(Client(kExports, 0).server().state() == Negotiation::State::over);
  CHECK(Client(kExports, 1 << 7 | kFixedNewstyle).server().state() == Negotiation::State::over);
  Client client;
  client.say(Bytes(16));
  CHECK(client.server().state() == Negotiation::State::over);
  Client leaving;
  CHECK(last_type(leaving.ask(Option::abort)) == number_of(OptionReply::ack));
  CHECK(leaving.server().state() == Negotiation::State::over);
}

}  // namespace
}  // namespace ringdisk::nbd
