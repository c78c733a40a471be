// SPDX-License-Identifier: Apache-2.0
// A whole queue on the loopback platform, against a target that insists on its contract: whatever
// lies in the ring, each request is answered once, as it deserves, or the ring is broken.
#include <algorithm>
#include <cstring>

#include "guest.h"

namespace ringdisk::fuzz {
namespace {

void run(Input input) {
  static Guest guest;
  const Setting setting = take_setting(input);
  guest.reset();
  std::memset(guest.ring(), 0, kPageBytes);
  const auto start = input.take<uint32_t>();
  // Mostly what fits the ring; sometimes any index at all.
  const auto ahead = input.take<uint8_t>();
  const uint32_t count = ahead < 0xf0 ? ahead % (kEntries + 1) : input.take<uint32_t>();
  store_index(guest.ring(), wire::kRspProd, start);
  store_index(guest.ring(), wire::kReqProd, start + count);
  store_index(guest.ring(), wire::kRspEvent, input.take<uint8_t>() + start);

  const size_t entry_bytes = wire::layout(setting.abi).entry_bytes;
  const auto entry = [&](uint32_t i) {
    return guest.ring() + wire::kRingHeaderBytes + ((start + i) & (kEntries - 1)) * entry_bytes;
  };
  const uint32_t requests = std::min(count, kEntries);
  bool predictable = true;
  for (uint32_t i = 0; i < requests; i++) {
    guest.take_entry(input, setting, entry(i));
    predictable &= guest.is_predictable(setting, {entry(i), entry_bytes});
  }
  guest.take_indirect_pages(input);
  std::vector<Answer> expected;
  for (uint32_t i = 0; i < requests; i++)
    expected.push_back(guest.deserved(setting, {entry(i), entry_bytes}));
  const Guest::Outcome outcome = guest.serve(setting, "", false, predictable ? requests : 0);
  FUZZ_CHECK(outcome.refused.empty());
  guest.check_untouched();
  if (!predictable) return;
  FUZZ_CHECK(outcome.broken == (count > kEntries ? 1 : 0));
  if (outcome.broken != 0) expected.clear();
  std::vector<Answer> answers = guest.published(setting, start);
  std::ranges::sort(expected);
  std::ranges::sort(answers);
  FUZZ_CHECK(answers == expected);
}

}  // namespace
}  // namespace ringdisk::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringdisk::fuzz::run(ringdisk::fuzz::Input(data, size));
  return 0;
}
