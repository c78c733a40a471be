// SPDX-License-Identifier: Apache-2.0
// A VBD is taken over whole or not at all: its queues are made and checked first, then all serve.
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "engine/engine.h"
#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/loopback_platform.h"
#include "raw_frontend.h"
#include "ring/journal.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint64_t kDiskBytes = 16u << 20;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Two queues whose daemon died after it took a read from each ring.
struct TwoQueues {
  TempMachine machine;
  LoopbackDomain guest{machine.dir(), 1, 4096};
  RawFrontend frontends[2] = {{guest, 1}, {guest, 1}};
  GuestPage page{guest};
  Engine engine{make_loopback_platform(machine.dir()),
                {.reactors = 2, .bounce_pool_bytes = 4u << 20},
                nullptr};
  std::vector<EngineEvent> events;

  TwoQueues() {
    for (int i = 0; i < 2; i++) {
      frontends[i].send(raw_data(wire::kRead, 0, {page.segment()}));
      leave_journal(i);
    }
  }
  ~TwoQueues() {
    CHECK(engine.idle());
    CHECK(guest.grants_in_use() == 0);
  }

  std::string journal(int queue) const {
    return machine.dir() + "/journal" + std::to_string(queue);
  }
  void leave_journal(int queue) {
    JournalIdentity identity;
    identity.abi = static_cast<uint32_t>(Abi::x86_64);
    identity.domid = 1;
    identity.remote_port = frontends[queue].port();
    identity.ring_pages = 1;
    identity.ring_refs[0] = frontends[queue].ring_refs[0];
    Journal made(journal(queue), Journal::Mode::create, wire::ring_entries(Abi::x86_64, 1),
                 identity, 0);
    std::memcpy(made[0].bytes, frontends[queue].shared() + wire::kRingHeaderBytes,
                wire::layout(Abi::x86_64).entry_bytes);
    Journal::set_state(made[0], JournalState::in_flight);
  }
  void spoil(int queue) {
    std::fstream file(journal(queue), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kPageBytes);
    file.put('?');
  }

  EngineEvent await(EngineEvent::Type type) {
    std::optional<EngineEvent> found;
    REQUIRE(eventually([&] {
      for (EngineEvent& event : engine.collect()) events.push_back(std::move(event));
      for (const EngineEvent& event : events)
        if (event.type == type) found = event;
      return found.has_value();
    }));
    return *found;
  }
  void take_over() {
    engine.open_target(1, {"null", std::to_string(kDiskBytes), false});
    ConnectRequest request;
    request.target = await(EngineEvent::Type::done).value;
    request.domid = 1;
    request.geometry = {0, kIndirectSegmentsMax, false, true, false};
    for (uint32_t i = 0; i < 2; i++)
      request.queues.push_back(
          {i, frontends[i].ring_refs, frontends[i].port(), journal(static_cast<int>(i)), true});
    events.clear();
    engine.connect(2, request);
  }
};

TEST_CASE("take-over: both queues replay, then it is told that all is answered") {
  if (!has_io_uring()) return;
  TwoQueues f;
  f.take_over();
  const EngineEvent recovered = f.await(EngineEvent::Type::recovered);
  CHECK(recovered.command == 2);
  REQUIRE(f.events.size() == 2);
  CHECK(f.events[0].type == EngineEvent::Type::done);
  for (RawFrontend& frontend : f.frontends) CHECK(frontend.answer().status == wire::kOkay);
  for (const auto& counters : f.engine.counters(f.events[0].value))
    CHECK(counters->replayed.get() == 1);
  f.engine.disconnect(3, f.events[0].value);
  f.events.clear();
  CHECK(f.await(EngineEvent::Type::done).value == 1);
}

TEST_CASE("take-over: beside a spoilt journal nothing is shown, replayed or changed") {
  if (!has_io_uring()) return;
  for (int victim = 0; victim < 2; victim++) {
    CAPTURE(victim);
    TwoQueues f;
    f.spoil(victim);
    const std::string before[] = {read_file(f.journal(0)), read_file(f.journal(1))};
    f.take_over();
    const EngineEvent failed = f.await(EngineEvent::Type::failed);
    CHECK(failed.error == ESTALE);
    CHECK(failed.text.find("the ring of queue " + std::to_string(victim)) != std::string::npos);
    CHECK(failed.text.find("in no known state") != std::string::npos);
    for (RawFrontend& frontend : f.frontends)
      CHECK(RawFrontend::load(frontend.header().rsp_prod) == 0);
    for (int i = 0; i < 2; i++) CHECK(read_file(f.journal(i)) == before[i]);
    // Whoever mends it finds everything.
    f.leave_journal(victim);
    f.take_over();
    f.await(EngineEvent::Type::recovered);
    for (RawFrontend& frontend : f.frontends) CHECK(frontend.answer().status == wire::kOkay);
    f.engine.disconnect(3, f.events[0].value);
    f.events.clear();
    CHECK(f.await(EngineEvent::Type::done).value == 1);
  }
}

}  // namespace
}  // namespace ringdisk
