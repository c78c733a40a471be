// SPDX-License-Identifier: Apache-2.0
// What an NBD server may say: the negotiation, cut into pieces anywhere, or answers to requests
// that are under way, most of them nearly right.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "input.h"
#include "protocol/nbd_handshake.h"
#include "protocol/nbd_replies.h"

namespace {

using namespace ringdisk::nbd;
using Bytes = std::vector<std::byte>;
using ringdisk::fuzz::Input;
using What = Replies::Step::What;

constexpr uint32_t kRequests = 4;

void negotiate(std::span<const std::byte> all, size_t piece) {
  Handshake handshake("disk");
  Bytes in;
  Bytes out;
  for (size_t at = 0; at < all.size(); at += piece) {
    const auto more = all.subspan(at, std::min(piece, all.size() - at));
    in.insert(in.end(), more.begin(), more.end());
    const size_t taken = handshake.feed(in, out);
    FUZZ_CHECK(taken <= in.size());
    FUZZ_CHECK(out.size() < 200);
    in.erase(in.begin(), in.begin() + static_cast<ptrdiff_t>(taken));
  }
  if (handshake.state() == Handshake::State::refused) {
    FUZZ_CHECK(!handshake.why().empty() && handshake.why().size() < 300);
    for (const char letter : handshake.why()) FUZZ_CHECK(letter >= ' ' && letter <= '~');
  }
  if (handshake.state() != Handshake::State::agreed) return;
  const ServerFacts& facts = handshake.facts();
  FUZZ_CHECK(facts.size <= uint64_t{1} << 62);
  FUZZ_CHECK((facts.flags & kHasFlags) != 0);
  FUZZ_CHECK(facts.block_min > 0 && (facts.block_min & (facts.block_min - 1)) == 0);
  FUZZ_CHECK(facts.block_min <= facts.block_preferred);
  FUZZ_CHECK(facts.block_preferred <= facts.block_max);
}

// The same rules once more: which bytes of which read have come.
struct Request {
  bool active = false;
  bool is_read = false;
  uint64_t offset = 0;
  std::vector<bool> has;
};

class Session {
 public:
  explicit Session(Input& input) : input_(input) {}

  void run() {
    while (!input_.empty() && !over_) {
      if (replies_.has_room() && input_.flag()) ask();
      say();
      hear();
    }
  }

 private:
  void ask() {
    const bool is_read = input_.flag();
    const uint64_t offset = input_.below(8) * 512;
    const uint32_t length = (input_.below(8) + 1) * 512;
    const uint32_t tag = replies_.begin(is_read, offset, length);
    FUZZ_CHECK(tag < kRequests && !requests_[tag].active);
    requests_[tag] = {true, is_read, offset, std::vector<bool>(length)};
  }

  void say() {
    uint32_t tag = input_.below(kRequests);
    for (uint32_t i = 0; i < kRequests && !requests_[tag].active; i++) tag = (tag + 1) % kRequests;
    uint64_t cookie = replies_.cookie(tag);
    if (input_.below(16) == 0) cookie = input_.take<uint64_t>();
    const uint64_t offset = requests_[tag].offset + uint64_t{input_.below(16)} * 256;
    const uint32_t length = (input_.below(16) + 1) * 256;
    Writer out(said_);
    if (input_.below(4) == 0) {
      out.number(kSimpleReplyMagic).number(uint32_t{input_.below(3)}).number(cookie);
      return;
    }
    constexpr uint16_t kTypes[] = {0, 1, 2, 5, 0x8001, 0x8002, 0x8003, 77};
    const uint16_t type = kTypes[input_.below(8)];
    out.number(kStructuredReplyMagic).number(static_cast<uint16_t>(input_.below(2)));
    out.number(type).number(cookie);
    if (type == 0) return static_cast<void>(out.number(uint32_t{input_.below(2)}));
    if (type == 1) return static_cast<void>(out.number(length + 8).number(offset));
    if (type == 2) return static_cast<void>(out.number(uint32_t{12}).number(offset).number(length));
    out.number(uint32_t{14}).number(uint32_t{input_.below(3)}).zeroes(10);
  }

  void hear() {
    for (;;) {
      const Replies::Step step = replies_.next(said_);
      FUZZ_CHECK(step.taken <= said_.size());
      said_.erase(said_.begin(), said_.begin() + static_cast<ptrdiff_t>(step.taken));
      if (step.what == What::more && step.taken == 0) return;
      if (step.what == What::broken) {
        over_ = true;
        return;
      }
      if (step.what != What::more) check(step);
    }
  }

  void check(const Replies::Step& step) {
    FUZZ_CHECK(step.tag < kRequests);
    Request& request = requests_[step.tag];
    FUZZ_CHECK(request.active);
    if (step.what == What::finished) {
      const bool whole =
          std::find(request.has.begin(), request.has.end(), false) == request.has.end();
      FUZZ_CHECK(step.error != Error::none || !request.is_read || whole);
      request.active = false;
      return;
    }
    FUZZ_CHECK(request.is_read && step.length > 0);
    FUZZ_CHECK(uint64_t{step.at} + step.length <= request.has.size());
    for (uint32_t byte = step.at; byte < step.at + step.length; byte++) {
      FUZZ_CHECK(!request.has[byte]);
      request.has[byte] = true;
    }
    // The data itself, which is none of the parser's business, is left out of the stream.
  }

  Input& input_;
  Replies replies_{kRequests};
  Request requests_[kRequests];
  Bytes said_;
  bool over_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  if ((data[0] & 1) != 0) {
    negotiate(std::as_bytes(std::span(data + 2, size - 2)), data[1] % 64 + 1);
    return 0;
  }
  Input input(data + 1, size - 1);
  Session(input).run();
  return 0;
}
