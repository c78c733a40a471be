// SPDX-License-Identifier: Apache-2.0
// Taking over a ring from any journal and any ring page: either it is refused and the guest is
// shown nothing, or every request the journal and the ring know of is answered exactly once.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "guest.h"

namespace ringdisk::fuzz {
namespace {

struct Record {
  JournalState state;
  uint32_t request_index;
  uint32_t response_index;
  int16_t status;
  std::array<std::byte, wire::kEntryBytesMax> bytes;
};

struct Scene {
  Setting setting;
  std::string journal;
  uint32_t published = 0;  // as the journal has it
  uint32_t rsp_prod = 0;
  uint32_t req_prod = 0;
  std::vector<Record> alive{};  // INFLIGHT, and DONE at or behind rsp_prod
  bool predictable = true;
};

uint32_t ahead_of(uint32_t index, uint32_t of) { return index - of; }

// Near where it would be, mostly.
uint32_t take_index(Input& input, uint32_t near) {
  const auto pick = input.take<int8_t>();
  if (pick == INT8_MIN) return input.take<uint32_t>();
  return near + static_cast<uint32_t>(pick % 40);
}

JournalState take_state(Input& input) {
  constexpr JournalState kStates[] = {JournalState::free, JournalState::in_flight,
                                      JournalState::done};
  const auto pick = input.take<uint8_t>();
  return pick < 0xfc ? kStates[pick % 3] : static_cast<JournalState>(input.take<uint32_t>());
}

// What a process that did everything right may leave: requests in any order of completion.
void make_lawful(Scene& scene, std::vector<Record>& records, Input& input) {
  const uint32_t answered = input.below(8), shown = answered == 0 ? 0 : input.below(answered + 1);
  scene.rsp_prod = scene.published + shown;
  uint32_t request = scene.published - 4, response = scene.published, alive = 0;
  for (Record& record : records) {
    if (record.state == JournalState::free) continue;
    const bool done = response != scene.published + answered;
    record.state = done ? JournalState::done : JournalState::in_flight;
    if (done) record.response_index = response++;
    if (!done || ahead_of(record.response_index, scene.rsp_prod) < kEntries) alive++;
    record.request_index = request++;
  }
  // Fewer answers than were to be shown: then that many were.
  if (ahead_of(response, scene.published) < shown) {
    alive = 0;
    for (Record& record : records) alive += record.state == JournalState::in_flight ? 1 : 0;
    scene.rsp_prod = response;
  }
  const uint32_t taken = scene.rsp_prod + alive;
  // Requests are numbered as they were taken; the last one taken is the youngest record.
  for (Record& record : records)
    if (record.state != JournalState::free) record.request_index += taken - request;
  scene.req_prod = taken + input.below(kEntries - std::min(alive, kEntries - 1));
}

void write_journal(const Scene& scene, const JournalIdentity& identity,
                   const std::vector<Record>& records) {
  Journal journal(scene.journal, Journal::Mode::create, kEntries, identity, scene.published);
  for (uint32_t i = 0; i < kEntries; i++) {
    JournalSlot& slot = journal[i];
    slot.request_index = records[i].request_index;
    slot.response_index = records[i].response_index;
    slot.status = records[i].status;
    std::memcpy(slot.bytes, records[i].bytes.data(), sizeof slot.bytes);
    Journal::set_state(slot, records[i].state);
  }
}

// A few bytes of the file, its header among them, as nobody meant them.
void spoil_file(const std::string& path, uint32_t count, Input& input) {
  const Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  for (uint32_t i = 0; i < count; i++) {
    const auto byte = input.take<uint8_t>();
    const off_t where = input.flag() ? input.take<uint8_t>() : input.take<uint16_t>() % 8192;
    FUZZ_CHECK(::pwrite(file.get(), &byte, 1, where) == 1);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Answer> expected_answers(Guest& guest, const Scene& scene) {
  std::vector<Answer> expected;
  const size_t entry_bytes = wire::layout(scene.setting.abi).entry_bytes;
  for (const Record& record : scene.alive) {
    Answer answer = guest.deserved(scene.setting, std::span(record.bytes).first(entry_bytes));
    if (record.state == JournalState::done) answer.status = record.status;
    expected.push_back(answer);
  }
  const auto alive = static_cast<uint32_t>(scene.alive.size());
  for (uint32_t i = scene.rsp_prod + alive; i != scene.req_prod; i++)
    expected.push_back(guest.deserved(
        scene.setting,
        {guest.ring() + wire::kRingHeaderBytes + (i & (kEntries - 1)) * entry_bytes, entry_bytes}));
  return expected;
}

void check(Guest& guest, const Scene& scene, bool lawful, bool spoilt) {
  Page before;
  std::memcpy(before.data(), guest.ring(), before.size());
  const auto alive = static_cast<uint32_t>(scene.alive.size());
  const uint32_t untaken = scene.req_prod - scene.rsp_prod - alive;
  const bool possible = untaken <= kEntries;
  std::vector<Answer> expected;
  if (possible && !spoilt) expected = expected_answers(guest, scene);
  const auto answers = static_cast<uint32_t>(expected.size());
  const std::string journal = read_file(scene.journal);
  const Guest::Outcome outcome = guest.serve(scene.setting, scene.journal, true, answers);
  guest.check_untouched();
  if (!outcome.refused.empty()) {
    FUZZ_CHECK(std::memcmp(before.data(), guest.ring(), before.size()) == 0);
    FUZZ_CHECK(read_file(scene.journal) == journal);
    FUZZ_CHECK(!lawful || spoilt);
    return;
  }
  if (spoilt || !scene.predictable) return;
  FUZZ_CHECK(possible);
  FUZZ_CHECK(outcome.broken == 0);
  std::vector<Answer> shown = guest.published(scene.setting, scene.rsp_prod);
  std::ranges::sort(shown);
  std::ranges::sort(expected);
  FUZZ_CHECK(shown == expected);
}

void run(Input input) {
  static Guest guest;
  guest.reset();
  std::memset(guest.ring(), 0, kPageBytes);
  Scene scene{.setting = take_setting(input), .journal = guest.dir() + "/journal"};
  scene.published = input.take<uint32_t>();
  const auto mode = input.take<uint8_t>();
  const bool lawful = mode % 4 != 3;
  const uint32_t spoilt_bytes = mode >= 0xe0 ? 1 + mode % 8 : 0;
  const size_t entry_bytes = wire::layout(scene.setting.abi).entry_bytes;
  const auto take_entry = [&](std::byte* to) {
    guest.take_entry(input, scene.setting, to);
    scene.predictable &= guest.is_predictable(scene.setting, {to, entry_bytes});
  };
  std::vector<Record> records(kEntries);
  for (Record& record : records) {
    if (input.empty()) break;
    record.state = take_state(input);
    if (record.state == JournalState::free) continue;
    record.request_index = take_index(input, scene.published);
    record.response_index = take_index(input, scene.published);
    record.status = static_cast<int16_t>(-static_cast<int16_t>(input.below(3)));
    take_entry(record.bytes.data());
  }
  for (Record& record : records)
    if (record.state == JournalState{}) record.state = JournalState::free;
  scene.rsp_prod = take_index(input, scene.published);
  scene.req_prod = take_index(input, scene.rsp_prod);
  if (lawful) {
    for (Record& record : records)
      if (record.state != JournalState::free) record.state = JournalState::in_flight;
    make_lawful(scene, records, input);
  }
  for (const Record& record : records) {
    const bool shown = static_cast<int32_t>(record.response_index - scene.rsp_prod) < 0;
    if (record.state == JournalState::in_flight || (record.state == JournalState::done && !shown))
      scene.alive.push_back(record);
  }
  for (uint32_t i = 0; i < kEntries && !input.empty(); i++)
    take_entry(guest.ring() + wire::kRingHeaderBytes + i * entry_bytes);
  store_index(guest.ring(), wire::kRspProd, scene.rsp_prod);
  store_index(guest.ring(), wire::kReqProd, scene.req_prod);
  guest.take_indirect_pages(input);
  write_journal(scene, guest.identity(scene.setting), records);
  if (spoilt_bytes > 0) spoil_file(scene.journal, spoilt_bytes, input);
  check(guest, scene, lawful, spoilt_bytes > 0);
  std::filesystem::remove(scene.journal);
}

}  // namespace
}  // namespace ringdisk::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringdisk::fuzz::run(ringdisk::fuzz::Input(data, size));
  return 0;
}
