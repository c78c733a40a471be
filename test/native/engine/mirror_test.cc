// SPDX-License-Identifier: Apache-2.0
// Mirrors of a guest that works on all its queues, by the engine's calls.
#include "engine/mirror.h"

#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <string>

#include "base/bitmap.h"
#include "engine_guest.h"
#include "eventually.h"
#include "needs_uring.h"

namespace ringdisk {
namespace {

// At one go: a guest may wait meanwhile.
std::string contents(const TempFile& file) {
  std::string all(file.bytes(), '\0');
  std::ifstream stream(file.path(), std::ios::binary);
  REQUIRE(stream.read(all.data(), static_cast<std::streamsize>(all.size())));
  return all;
}

void goes_on_and_ends(Work& work) {
  const uint64_t rounds = work.rounds;
  REQUIRE(eventually([&] { return work.rounds > rounds + 1; }));
  work.end();
  CHECK(work.wrong == 0);
}

struct Mirrored {
  EngineGuest guest;
  TempFile copy{disk_folder(), EngineGuest::kDiskBytes};
  TargetSpec there{"file", copy.path()};
  uint32_t destination = 0;
  uint32_t mirror = 0;

  explicit Mirrored(bool sync, const std::function<void(Mirrored&)>& before = {}) {
    if (before) before(*this);
    guest.engine.open_target(10, there);
    destination = guest.result_of(10).value;
    guest.engine.claim_target(11, destination, {});
    guest.result_of(11);
    const std::string map = guest.machine.dir() + "/mirror.map";
    Bitmap::create(map, EngineGuest::kDiskBytes, 64u << 10, "");
    guest.engine.make_mirror(12, guest.target,
                             {.map_path = map, .is_new = true, .wish = {.sync = sync}});
    mirror = guest.result_of(12).value;
    REQUIRE(mirror != 0);
    guest.engine.attach_mirror(13, guest.vbd, mirror);
    REQUIRE(guest.result_of(13).error == 0);
    guest.engine.give_mirror(14, mirror, destination);
    REQUIRE(guest.result_of(14).error == 0);
  }
  // While a guest works.
  void begin_switch() {
    REQUIRE(eventually([&] { return is_ready(); }));
    guest.engine.begin_switch(15, guest.vbd);
    REQUIRE(guest.result_of(15).error == 0);
  }
  bool is_ready() { return guest.engine.mirror_status(mirror)->ready; }
  void close() {
    guest.engine.close_mirror(20, mirror);
    CHECK(guest.result_of(20).error == 0);
    REQUIRE(eventually([&] {
      guest.engine.collect();
      return !guest.engine.mirror_status(mirror);
    }));
  }
};

TEST_CASE("mirror: the target becomes the disk while a guest works, and it notices nothing") {
  if (!has_io_uring()) return;
  Mirrored mirrored(true);
  EngineGuest& guest = mirrored.guest;
  Work work(guest.guest);
  mirrored.begin_switch();
  // Nothing is under way now.
  CHECK(mirrored.is_ready());
  CHECK(contents(mirrored.copy) == contents(guest.file));
  const std::string before = contents(guest.file);
  guest.engine.decide_switch(16, guest.vbd, 0);
  REQUIRE(guest.result_of(16).error == 0);
  mirrored.close();
  goes_on_and_ends(work);
  CHECK(contents(guest.file) == before);
  // The old one is no VBD's any more, the new one is.
  guest.engine.close_target(17, mirrored.destination);
  CHECK(guest.result_of(17).error == EBUSY);
  guest.disconnect();
  guest.engine.close_target(18, mirrored.destination);
  CHECK(guest.result_of(18).error == 0);
}

TEST_CASE("mirror: a switch that is decided against changes nothing, nor does an end") {
  if (!has_io_uring()) return;
  Mirrored mirrored(true);
  EngineGuest& guest = mirrored.guest;
  Work work(guest.guest);
  mirrored.begin_switch();
  guest.engine.decide_switch(16, guest.vbd, ECANCELED);
  CHECK(guest.result_of(16).error == ECANCELED);
  guest.engine.close_mirror(17, mirrored.mirror);
  CHECK(guest.result_of(17).error == EBUSY);
  guest.engine.end_mirror(mirrored.mirror);
  REQUIRE(
      eventually([&] { return guest.engine.mirror_status(mirrored.mirror)->error == ECANCELED; }));
  guest.engine.detach_mirror(18, guest.vbd);
  CHECK(guest.result_of(18).error == 0);
  mirrored.close();
  goes_on_and_ends(work);
  guest.engine.close_target(19, mirrored.destination);
  CHECK(guest.result_of(19).error == 0);
}

TEST_CASE("mirror: without waiting for the target, it follows") {
  if (!has_io_uring()) return;
  Mirrored mirrored(false);
  EngineGuest& guest = mirrored.guest;
  {
    Work work(guest.guest);
    goes_on_and_ends(work);
  }
  REQUIRE(
      eventually([&] { return guest.engine.mirror_status(mirrored.mirror)->behind_bytes == 0; }));
  CHECK(contents(mirrored.copy) == contents(guest.file));
  CHECK(!mirrored.is_ready());
  guest.disconnect();
  mirrored.close();
  guest.engine.close_target(19, mirrored.destination);
  CHECK(guest.result_of(19).error == 0);
}

TEST_CASE("mirror: a bitmap has what is written while it goes on, whichever of them came first") {
  if (!has_io_uring()) return;
  for (const bool is_bitmap_first : {true, false}) {
    CAPTURE(is_bitmap_first);
    std::string bits;
    const auto track = [&](Mirrored& mirrored) {
      EngineGuest& guest = mirrored.guest;
      bits = guest.machine.dir() + "/bits";
      Bitmap::create(bits, EngineGuest::kDiskBytes, 64u << 10, "");
      guest.engine.track(30, guest.target, {bits});
      REQUIRE(guest.result_of(30).error == 0);
    };
    Mirrored mirrored(true, is_bitmap_first ? track : std::function<void(Mirrored&)>{});
    EngineGuest& guest = mirrored.guest;
    if (!is_bitmap_first) track(mirrored);
    {
      Work work(guest.guest);
      goes_on_and_ends(work);
    }
    CHECK(Bitmap(bits).set_bytes(EngineGuest::kDiskBytes) == EngineGuest::kDiskBytes);
    guest.disconnect();
    mirrored.close();
    guest.engine.close_target(19, mirrored.destination);
    CHECK(guest.result_of(19).error == 0);
  }
}

// Of the old host's guest the new host's disk must hear, also where nothing was written since.
TEST_CASE("mirror: a server that was started anew is told that it has all") {
  if (!has_io_uring()) return;
  uint32_t exported = 0;
  uint32_t exported_target = 0;
  std::string socket;
  const auto export_copy = [&](EngineGuest& guest) {
    guest.engine.add_export(41, {exported_target, socket, "disk", "", false});
    exported = guest.result_of(41).value;
    REQUIRE(exported != 0);
  };
  const auto remove = [&](EngineGuest& guest) {
    guest.engine.remove_export(42, exported);
    CHECK(guest.result_of(42).type == EngineEvent::Type::done);
  };
  Mirrored mirrored(true, [&](Mirrored& one) {
    socket = one.guest.machine.dir() + "/nbd.sock";
    one.guest.engine.open_target(40, one.there);
    exported_target = one.guest.result_of(40).value;
    one.guest.engine.claim_target(40, exported_target, {});
    one.guest.result_of(40);
    export_copy(one.guest);
    one.there = {"nbd", socket + ":exportname=disk"};
  });
  EngineGuest& guest = mirrored.guest;
  REQUIRE(eventually([&] { return mirrored.is_ready(); }));
  remove(guest);
  export_copy(guest);
  guest.disconnect();
  mirrored.close();
  CHECK(eventually([&] { return guest.engine.export_goodbyes(exported) == 1; }));
  remove(guest);
  for (const uint32_t target : {mirrored.destination, exported_target}) {
    guest.engine.close_target(43, target);
    CHECK(guest.result_of(43).error == 0);
  }
}

}  // namespace
}  // namespace ringdisk
