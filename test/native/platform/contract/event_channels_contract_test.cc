// SPDX-License-Identifier: Apache-2.0
// What every EventChannels must do, as EventWatch hears of it: the daemon has no other way.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "io/uring.h"
#include "metrics/counters.h"
#include "needs_uring.h"
#include "peer.h"
#include "protocol/limits.h"
#include "reactor/event_watch.h"

namespace ringdisk {
namespace {

constexpr int kSoonMs = 2000;
constexpr int kAMomentMs = 20;
constexpr Port kNeverOpened = 4011;
constexpr Domid kNobody = 4711;

using Ports = std::vector<Port>;

struct Fixture {
  std::unique_ptr<Peer> peer = make_peer();
  std::unique_ptr<EventChannels> channels;
  ReactorCounters counters;
  std::unique_ptr<EventWatch> watch;
  std::unique_ptr<Uring> uring;  // gone before what it reads into
  Port remote = peer->open_port();
  Port local = 0;

  Fixture() {
    if (has_io_uring()) open();
  }

  // Anew: what was bound is not any more.
  void open() {
    uring = std::make_unique<Uring>(probe_uring());
    channels = peer->platform().open_event_channels();
    watch = std::make_unique<EventWatch>(*channels, *uring, counters);
  }

  // Ports that fired, masked now; none: none did in this time.
  Ports take(int timeout_ms = kSoonMs) {
    using namespace std::chrono;
    const auto end = steady_clock::now() + milliseconds(timeout_ms);
    while (!watch->pending()) {
      const auto left = duration_cast<microseconds>(end - steady_clock::now()).count();
      if (left <= 0) return {};
      uring->sleep(static_cast<uint64_t>(left));
      watch->note(uring->reap());
    }
    const std::span<const Port> ports = watch->take();
    return {ports.begin(), ports.end()};
  }
  // Binds and takes the event every fresh binding has.
  void bind() {
    REQUIRE(channels->bind(peer->domid(), remote, local) == 0);
    REQUIRE(take() == Ports{local});
    watch->unmask(local);
  }
};

TEST_CASE_FIXTURE(Fixture, "events: a freshly bound port is pending once") {
  if (!uring) return;
  bind();
  CHECK(take(kAMomentMs).empty());
}

TEST_CASE_FIXTURE(Fixture, "events: many notifications make one event") {
  if (!uring) return;
  bind();
  for (int i = 0; i < 10'000; i++) peer->notify(remote);
  CHECK(take() == Ports{local});
}

TEST_CASE_FIXTURE(Fixture, "events: a masked port is quiet and keeps what arrives until unmask") {
  if (!uring) return;
  bind();
  peer->notify(remote);
  CHECK(take() == Ports{local});
  peer->notify(remote);
  CHECK(take(kAMomentMs).empty());
  watch->unmask(local);
  CHECK(take() == Ports{local});
}

TEST_CASE_FIXTURE(Fixture, "events: notify wakes the other end") {
  if (!uring) return;
  bind();
  while (peer->wait(remote, kAMomentMs)) continue;  // a fresh binding may have an event there, too
  for (int i = 0; i < 10'000; i++) channels->notify(local);
  CHECK(peer->wait(remote, kSoonMs));
}

TEST_CASE_FIXTURE(Fixture, "events: a port can be bound once at a time") {
  if (!uring) return;
  bind();
  Port other = 0;
  CHECK(channels->bind(peer->domid(), remote, other) < 0);
  CHECK(peer->platform().open_event_channels()->bind(peer->domid(), remote, other) < 0);
  channels->unbind(local);
  CHECK(channels->bind(peer->domid(), remote, other) == 0);
}

TEST_CASE_FIXTURE(Fixture, "events: channels that are gone leave their ports for others to bind") {
  if (!uring) return;
  bind();
  open();
  bind();
  peer->notify(remote);
  CHECK(take() == Ports{local});
}

TEST_CASE_FIXTURE(Fixture, "events: an unbound port is silent") {
  if (!uring) return;
  bind();
  channels->unbind(local);
  peer->notify(remote);
  CHECK(take(kAMomentMs).empty());
}

TEST_CASE_FIXTURE(Fixture, "events: more pending ports than are taken at once are all told") {
  if (!uring) return;
  std::set<Port> bound, told;
  for (size_t i = 0; i < kPendingPorts + 3; i++) {
    REQUIRE(channels->bind(peer->domid(), peer->open_port(), local) == 0);
    bound.insert(local);
  }
  for (Ports ports = take(); !ports.empty(); ports = take(kAMomentMs)) {
    told.insert(ports.begin(), ports.end());
  }
  CHECK(told == bound);
}

TEST_CASE_FIXTURE(Fixture, "events: a port or a domain that is not there cannot be bound") {
  if (!uring) return;
  CHECK(channels->bind(peer->domid(), kNeverOpened, local) < 0);
  CHECK(channels->bind(kNobody, remote, local) < 0);
}

TEST_CASE_FIXTURE(Fixture, "events: notifying an end that is closed does no harm") {
  if (!uring) return;
  bind();
  peer->close_port(remote);
  channels->notify(local);
  channels->unbind(local);
}

}  // namespace
}  // namespace ringdisk
