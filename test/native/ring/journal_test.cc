// SPDX-License-Identifier: Apache-2.0
#include "ring/journal.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>

#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kSlots = 32;
constexpr JournalIdentity kIdentity{.abi = 1, .domid = 7, .remote_port = 3, .ring_pages = 1};

struct Files {
  TempMachine machine;
  std::string path = machine.dir() + "/journal";

  std::unique_ptr<Journal> make(Journal::Mode mode, uint32_t slots = kSlots,
                                const JournalIdentity& identity = kIdentity) {
    return std::make_unique<Journal>(path, mode, slots, identity, 5);
  }
  // The errno with which a take-over is refused.
  int refusal(uint32_t slots = kSlots, const JournalIdentity& identity = kIdentity) {
    try {
      make(Journal::Mode::take_over, slots, identity);
    } catch (const std::system_error& error) {
      return error.code().value();
    }
    return 0;
  }
  void overwrite(std::streamoff offset, char byte) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offset);
    file.put(byte);
  }
};

TEST_CASE("journal: records start free, zeroed and apart") {
  Journal journal("", Journal::Mode::create, kRingEntriesMax, kIdentity, 0);
  for (uint32_t i = 0; i < kRingEntriesMax; i++) {
    CHECK(Journal::state(journal[i]) == JournalState::free);
    journal[i].request_index = i;
  }
  for (uint32_t i = 0; i < kRingEntriesMax; i++) CHECK(journal[i].request_index == i);
  Journal::set_state(journal[3], JournalState::in_flight);
  CHECK(Journal::state(journal[3]) == JournalState::in_flight);
  CHECK(Journal::state(journal[2]) == JournalState::free);
  CHECK(Journal::state(journal[4]) == JournalState::free);
}

TEST_CASE("journal: a successor finds every record, and counts itself") {
  Files files;
  {
    auto journal = files.make(Journal::Mode::create);
    (*journal)[9].request_index = 77;
    Journal::set_state((*journal)[9], JournalState::in_flight);
    journal->set_published(6);
  }
  auto journal = files.make(Journal::Mode::take_over);
  CHECK(journal->generation() == 1);
  journal->count_process();
  CHECK(journal->generation() == 2);
  CHECK(journal->published() == 6);
  CHECK(Journal::state((*journal)[9]) == JournalState::in_flight);
  CHECK((*journal)[9].request_index == 77);
  CHECK(Journal::state((*journal)[8]) == JournalState::free);
  journal->discard();
  CHECK_FALSE(std::filesystem::exists(files.path));
}

TEST_CASE("journal: only one process has it") {
  Files files;
  const auto journal = files.make(Journal::Mode::create);
  CHECK(files.refusal() == EBUSY);
  CHECK_THROWS_WITH(files.make(Journal::Mode::create),
                    doctest::Contains("another process serves the ring"));
}

TEST_CASE("journal: one of another ring, another version or half made is refused") {
  Files files;
  CHECK(files.refusal() == ENOENT);
  files.make(Journal::Mode::create);
  CHECK(files.refusal() == 0);
  CHECK(files.refusal(2 * kSlots) == ESTALE);
  for (auto field : {&JournalIdentity::abi, &JournalIdentity::domid, &JournalIdentity::remote_port,
                     &JournalIdentity::ring_pages}) {
    JournalIdentity other = kIdentity;
    other.*field += 1;
    CHECK(files.refusal(kSlots, other) == ESTALE);
  }
  JournalIdentity other = kIdentity;
  other.ring_refs[kRingPagesMax - 1] = 1;
  CHECK(files.refusal(kSlots, other) == ESTALE);

  files.overwrite(offsetof(JournalHeader, version), Journal::kVersion + 1);
  CHECK_THROWS_WITH(files.make(Journal::Mode::take_over), doctest::Contains("has version 2"));
  files.make(Journal::Mode::create);
  files.overwrite(offsetof(JournalHeader, magic), 0);
  CHECK_THROWS_WITH(files.make(Journal::Mode::take_over), doctest::Contains("never finished"));
  std::filesystem::resize_file(files.path, kPageBytes);
  CHECK(files.refusal() == ESTALE);
  std::filesystem::resize_file(files.path, 0);
  CHECK(files.refusal() == ESTALE);
}

TEST_CASE("journal: made anew over an old one, nothing of that is left") {
  Files files;
  Journal::set_state((*files.make(Journal::Mode::create))[1], JournalState::done);
  const auto journal = files.make(Journal::Mode::create);
  CHECK(Journal::state((*journal)[1]) == JournalState::free);
  CHECK(journal->generation() == 1);
}

}  // namespace
}  // namespace ringdisk
