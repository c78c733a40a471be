// SPDX-License-Identifier: Apache-2.0
// What an NBD client may say: the negotiation and the requests after it, cut into pieces anywhere.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "input.h"
#include "nbd/negotiation.h"
#include "nbd/request.h"

namespace {

using namespace ringdisk::nbd;

const std::vector<ExportFacts> kExports = {
    {.name = "a",
     .description = "d",
     .size = 1 << 20,
     .flags = kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kSendDf |
              kSendCache | kSendFastZero,
     .block_min = 512,
     .contexts = {{1, "base:allocation"}, {2, "qemu:dirty-bitmap:x"}}},
    {.name = "b", .size = 4096, .flags = kHasFlags | kReadOnly, .block_min = 4096}};

// Of a client that says no more than 4 KiB.
constexpr size_t kAnswersMax = 4u << 20;

void check(const RawRequest& raw, const Agreement& agreement) {
  const ExportFacts& facts = kExports[agreement.index];
  Request request;
  if (validate(raw, facts, agreement, request) != Error::none) return;
  FUZZ_CHECK(request.length <= facts.size && request.offset <= facts.size - request.length);
  FUZZ_CHECK(request.offset % facts.block_min == 0 && request.length % facts.block_min == 0);
  const bool writes = request.command == Command::write || request.command == Command::trim ||
                      request.command == Command::write_zeroes;
  FUZZ_CHECK(!writes || !(facts.flags & kReadOnly));
  if (request.command == Command::read || request.command == Command::write)
    FUZZ_CHECK(request.length <= facts.block_max);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const size_t piece = data[0] % 64 + 1;
  const auto all = std::as_bytes(std::span(data + 1, size - 1));
  std::vector<std::byte> out, in;
  Negotiation negotiation(kExports, out);
  for (size_t at = 0; at < all.size(); at += piece) {
    const auto more = all.subspan(at, std::min(piece, all.size() - at));
    in.insert(in.end(), more.begin(), more.end());
    const size_t taken = negotiation.feed(in, out);
    FUZZ_CHECK(taken <= in.size());
    FUZZ_CHECK(out.size() <= kAnswersMax);
    in.erase(in.begin(), in.begin() + static_cast<ptrdiff_t>(taken));
    if (negotiation.state() == Negotiation::State::over) return 0;
    if (negotiation.state() != Negotiation::State::agreed) continue;
    const Agreement& agreement = negotiation.agreement();
    RawRequest raw;
    while (decode(in, agreement.extended, raw) == Decoded::whole) {
      check(raw, agreement);
      in.erase(in.begin(), in.begin() + static_cast<ptrdiff_t>(header_bytes(agreement.extended)));
    }
  }
  return 0;
}
