// SPDX-License-Identifier: Apache-2.0
// The data path as its owner sees it: commands in, events out, nothing left behind.
#include "engine/engine.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>

#include "../targets/test_media.h"
#include "engine_results.h"
#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/loopback_platform.h"
#include "raw_frontend.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint64_t kDiskBytes = 16u << 20;

struct Fixture {
  TempMachine machine;
  std::atomic<int> wakes{0};
  LoopbackDomain guest{machine.dir(), 1, 4096};
  Engine engine;
  std::vector<EngineEvent> others;  // that belong to no command

  explicit Fixture(unsigned reactors = 2)
      : engine(make_loopback_platform(machine.dir()), options(reactors), [this] { wakes++; }) {}
  ~Fixture() {
    CHECK(engine.idle());
    CHECK(guest.grants_in_use() == 0);
    CHECK(engine.persistent_pages() == 0);
    for (const auto& reactor : engine.reactors()) {
      CHECK(reactor->counters().mapped_pages.get() == 0);
      CHECK(reactor->counters().bound_ports.get() == 0);
    }
  }

  static EngineOptions options(unsigned reactors) {
    EngineOptions chosen;
    chosen.reactors = reactors;
    chosen.bounce_pool_bytes = 4u << 20;
    return chosen;
  }

  EngineEvent result_of(uint32_t command) { return ringdisk::result_of(engine, command, &others); }
  uint32_t open(const TargetSpec& spec) {
    engine.open_target(1, spec);
    const EngineEvent event = result_of(1);
    REQUIRE(event.type == EngineEvent::Type::done);
    REQUIRE(event.facts.has_value());
    return event.value;
  }
  uint32_t open_null() { return open({"null", std::to_string(kDiskBytes), false}); }

  static ConnectRequest request(uint32_t target, const std::vector<RawFrontend*>& frontends) {
    ConnectRequest made;
    made.target = target;
    made.domid = 1;
    made.grants = GrantStrategy::persistent;
    made.geometry = {0, kIndirectSegmentsMax, false, true, false};
    made.persistent_pages_max = 1056;
    for (uint32_t i = 0; i < frontends.size(); i++)
      made.queues.push_back({i, frontends[i]->ring_refs, frontends[i]->port()});
    return made;
  }
  uint32_t connect(const ConnectRequest& what) {
    engine.connect(2, what);
    const EngineEvent event = result_of(2);
    REQUIRE(event.type == EngineEvent::Type::done);
    return event.value;
  }
  EngineEvent disconnect(uint32_t vbd) {
    engine.disconnect(3, vbd);
    return result_of(3);
  }
};

TEST_CASE("engine: a VBD of several queues on several reactors serves and lets go") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open_null();
  std::vector<std::unique_ptr<RawFrontend>> frontends;
  std::vector<RawFrontend*> pointers;
  for (int i = 0; i < 4; i++) {
    frontends.push_back(std::make_unique<RawFrontend>(f.guest, 2));
    pointers.push_back(frontends.back().get());
  }
  const uint32_t vbd = f.connect(Fixture::request(target, pointers));
  GuestPage page(f.guest);
  for (RawFrontend* frontend : pointers)
    for (int i = 0; i < 10; i++)
      CHECK(frontend->ask(raw_data(wire::kWrite, 0, {page.segment()})) == wire::kOkay);
  const auto counters = f.engine.counters(vbd);
  REQUIRE(counters.size() == 4);
  for (const auto& one : counters) CHECK(one->writes.get() == 10);
  CHECK(f.engine.persistent_pages() == 4);
  const EngineEvent event = f.disconnect(vbd);
  CHECK(event.type == EngineEvent::Type::done);
  CHECK(event.value == 1);  // drained
  CHECK_THROWS_AS(f.engine.counters(vbd), std::invalid_argument);
  CHECK(f.wakes > 0);
}

TEST_CASE("engine: one bad queue undoes the good ones, and says which was bad") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open_null();
  RawFrontend good(f.guest, 1);
  RawFrontend bad(f.guest, 1);
  ConnectRequest request = Fixture::request(target, {&good, &bad, &good});
  RawFrontend third(f.guest, 1);
  request.queues[2] = {2, third.ring_refs, third.port()};
  request.queues[1].ring_refs[0] = UINT32_MAX;
  f.engine.connect(7, request);
  EngineEvent event = f.result_of(7);
  CHECK(event.type == EngineEvent::Type::failed);
  CHECK(event.error == EINVAL);
  CHECK(event.text.find("ring of queue 1") != std::string::npos);
  CHECK(f.engine.idle());
  request.queues[1] = {1, bad.ring_refs, 999};
  f.engine.connect(8, request);
  event = f.result_of(8);
  CHECK(event.type == EngineEvent::Type::failed);
  CHECK(event.text.find("event-channel 999 of queue 1") != std::string::npos);
  // And right at last.
  request.queues[1].remote_port = bad.port();
  CHECK(f.disconnect(f.connect(request)).value == 1);
}

TEST_CASE("engine: refuses requests that are out of bounds") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open_null();
  RawFrontend frontend(f.guest, 1);
  const ConnectRequest good = Fixture::request(target, {&frontend});
  const auto refused = [&](auto spoil) {
    ConnectRequest bad = good;
    spoil(bad);
    CHECK_THROWS_AS(f.engine.connect(9, bad), std::invalid_argument);
  };
  refused([](ConnectRequest& r) { r.queues.clear(); });
  refused([](ConnectRequest& r) { r.queues.resize(kQueuesPerVbdMax + 1, r.queues[0]); });
  refused([](ConnectRequest& r) { r.queues[0].ring_refs.clear(); });
  refused([](ConnectRequest& r) { r.queues[0].ring_refs.resize(3); });
  refused([](ConnectRequest& r) { r.queues[0].ring_refs.resize(32); });
  refused([](ConnectRequest& r) { r.geometry.indirect_segments_max = 257; });
  refused([](ConnectRequest& r) {
    r.queues.push_back(r.queues[0]);
    r.queues[1].ring_refs.resize(2);
  });
  const uint32_t read_only = f.open({"null", "4096", true});
  refused([&](ConnectRequest& r) { r.target = read_only; });
  CHECK(f.engine.idle());
}

TEST_CASE("engine: commands for what does not exist fail by event") {
  if (!has_io_uring()) return;
  Fixture f;
  RawFrontend frontend(f.guest, 1);
  f.engine.connect(11, Fixture::request(12345, {&frontend}));
  CHECK(f.result_of(11).error == EBADF);
  f.engine.disconnect(12, 12345);
  CHECK(f.result_of(12).error == EBADF);
  f.engine.close_target(13, 12345);
  CHECK(f.result_of(13).error == EBADF);
  f.engine.refresh_target(14, 12345);
  CHECK(f.result_of(14).error == EBADF);
  f.engine.open_target(15, {"file", "/nonexistent/disk", false});
  CHECK(f.result_of(15).error == ENOENT);
  f.engine.open_target(16, {"floppy", "a:", false});
  CHECK(f.result_of(16).type == EngineEvent::Type::failed);
}

TEST_CASE("engine: a target in use is not closed, and is afterwards") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open_null();
  RawFrontend frontend(f.guest, 1);
  const uint32_t vbd = f.connect(Fixture::request(target, {&frontend}));
  f.engine.close_target(21, target);
  CHECK(f.result_of(21).error == EBUSY);
  f.disconnect(vbd);
  f.engine.close_target(22, target);
  CHECK(f.result_of(22).type == EngineEvent::Type::done);
  f.engine.close_target(23, target);
  CHECK(f.result_of(23).error == EBADF);
}

TEST_CASE("engine: a broken ring is told once and is one queue's only") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open_null();
  RawFrontend broken(f.guest, 1);
  RawFrontend whole(f.guest, 1);
  const uint32_t vbd = f.connect(Fixture::request(target, {&broken, &whole}));
  RawFrontend::store(broken.header().req_prod, 77);
  broken.notify();
  REQUIRE(eventually([&] {
    for (EngineEvent& event : f.engine.collect()) f.others.push_back(std::move(event));
    return !f.others.empty();
  }));
  CHECK(f.others.size() == 1);
  CHECK(f.others[0].type == EngineEvent::Type::ring_broken);
  CHECK(f.others[0].vbd == vbd);
  CHECK(f.others[0].queue == 0);
  CHECK(f.others[0].text == "impossible producer index");
  GuestPage page(f.guest);
  CHECK(whole.ask(raw_data(wire::kRead, 0, {page.segment()})) == wire::kOkay);
  f.disconnect(vbd);
}

TEST_CASE("engine: two disconnects of one VBD are one") {
  if (!has_io_uring()) return;
  Fixture f;
  RawFrontend frontend(f.guest, 1);
  const uint32_t vbd = f.connect(Fixture::request(f.open_null(), {&frontend}));
  f.engine.disconnect(31, vbd);
  f.engine.disconnect(32, vbd);
  std::map<uint32_t, EngineEvent::Type> results;
  REQUIRE(eventually([&] {
    for (const EngineEvent& event : f.engine.collect()) results[event.command] = event.type;
    return results.size() == 2;
  }));
  CHECK(results[31] == EngineEvent::Type::done);
  CHECK(results[32] == EngineEvent::Type::failed);
}

TEST_CASE("engine: a file that grows is told and usable at once") {
  if (!has_io_uring()) return;
  Fixture f;
  const std::string path = f.machine.dir() + "/disk";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(::ftruncate(file.get(), 1 << 20) == 0);
  const uint32_t target = f.open({"file", path, false});
  RawFrontend frontend(f.guest, 1);
  const uint32_t vbd = f.connect(Fixture::request(target, {&frontend}));
  GuestPage page(f.guest);
  const RawRequest beyond = raw_data(wire::kWrite, 2048, {page.segment()});
  CHECK(frontend.ask(beyond) == wire::kError);
  REQUIRE(::ftruncate(file.get(), 2 << 20) == 0);
  f.engine.refresh_target(41, target);
  const EngineEvent event = f.result_of(41);
  REQUIRE(event.facts.has_value());
  CHECK(event.facts->capabilities.capacity == 2u << 20);
  CHECK(frontend.ask(beyond) == wire::kOkay);
  // One that is used does not shrink: the guest has been told the larger size.
  REQUIRE(::ftruncate(file.get(), 1 << 20) == 0);
  f.engine.refresh_target(42, target);
  CHECK(f.result_of(42).error == ERANGE);
  CHECK(frontend.ask(raw_data(wire::kRead, 4088, {page.segment()})) == wire::kError);
  f.disconnect(vbd);
}

TEST_CASE("engine: connecting beside a refresh of the same target is no race") {
  if (!has_io_uring()) return;
  Fixture f;
  const std::string path = f.machine.dir() + "/disk";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(::ftruncate(file.get(), 1 << 20) == 0);
  const uint32_t target = f.open({"file", path, false});
  RawFrontend frontend(f.guest, 1);
  for (uint32_t i = 0; i < 20; i++) {
    f.engine.refresh_target(100 + i, target);
    f.disconnect(f.connect(Fixture::request(target, {&frontend})));
  }
  std::set<uint32_t> refreshed;
  for (const EngineEvent& event : f.others) refreshed.insert(event.command);
  while (refreshed.size() < 20)
    for (const EngineEvent& event : f.engine.collect()) refreshed.insert(event.command);
}

TEST_CASE("engine: a VBD on a worker goes while its neighbour on the same reactor is busy") {
  if (!has_io_uring()) return;
  Fixture f(1);
  const TempFile disks[] = {{disk_folder(), kDiskBytes}, {disk_folder(), kDiskBytes}};
  const uint32_t busy = f.open({"file", disks[0].path(), false});
  const uint32_t target = f.open({"file", disks[1].path(), false});
  RawFrontend neighbour(f.guest, 1);
  const uint32_t stays = f.connect(Fixture::request(busy, {&neighbour}));
  std::atomic<bool> stop{false};
  std::atomic<bool> well{true};
  std::thread asking([&] {
    while (!stop) well = neighbour.ask(raw_flush()) == wire::kOkay && well;
  });
  for (int i = 0; i < 100; i++) {
    RawFrontend frontend(f.guest, 1);
    const uint32_t vbd = f.connect(Fixture::request(target, {&frontend}));
    CHECK(f.disconnect(vbd).value == 1);
  }
  stop = true;
  asking.join();
  CHECK(well);
  CHECK(f.disconnect(stays).value == 1);
}

}  // namespace
}  // namespace ringdisk
