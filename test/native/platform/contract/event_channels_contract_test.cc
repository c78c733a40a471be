// SPDX-License-Identifier: Apache-2.0
// What every EventChannels must do.
#include <doctest/doctest.h>
#include <poll.h>

#include <array>
#include <memory>

#include "peer.h"

namespace ringdisk {
namespace {

constexpr int kSoonMs = 2000;
constexpr Port kNeverOpened = 4011;
constexpr Domid kNobody = 4711;

struct Fixture {
  std::unique_ptr<Peer> peer = make_peer();
  std::unique_ptr<EventChannels> channels = peer->platform().open_event_channels();
  Port remote = peer->open_port();
  Port local = 0;
  std::array<Port, 4> pending{};

  bool readable(int timeout_ms = 0) const {
    pollfd one{channels->fd(), POLLIN, 0};
    return ::poll(&one, 1, timeout_ms) == 1;
  }
  // Binds and takes the event every fresh binding has.
  void bind() {
    REQUIRE(channels->bind(peer->domid(), remote, local) == 0);
    REQUIRE(readable(kSoonMs));
    REQUIRE(channels->take_pending(pending) == 1);
    CHECK(pending[0] == local);
    channels->unmask(local);
  }
};

TEST_CASE_FIXTURE(Fixture, "events: a freshly bound port is pending once") {
  bind();
  CHECK_FALSE(readable());
  CHECK(channels->take_pending(pending) == 0);
}

TEST_CASE_FIXTURE(Fixture, "events: many notifications make one event") {
  bind();
  for (int i = 0; i < 10'000; i++) peer->notify(remote);
  REQUIRE(readable(kSoonMs));
  REQUIRE(channels->take_pending(pending) == 1);
}

TEST_CASE_FIXTURE(Fixture, "events: a masked port is quiet and keeps what arrives until unmask") {
  bind();
  peer->notify(remote);
  REQUIRE(readable(kSoonMs));
  REQUIRE(channels->take_pending(pending) == 1);
  peer->notify(remote);
  CHECK_FALSE(readable(20));
  CHECK(channels->take_pending(pending) == 0);
  channels->unmask(local);
  CHECK(readable(kSoonMs));
  CHECK(channels->take_pending(pending) == 1);
}

TEST_CASE_FIXTURE(Fixture, "events: notify wakes the other end") {
  bind();
  while (peer->wait(remote, 20)) continue;  // a fresh binding may have an event there, too
  for (int i = 0; i < 10'000; i++) channels->notify(local);
  CHECK(peer->wait(remote, kSoonMs));
}

TEST_CASE_FIXTURE(Fixture, "events: a port can be bound once at a time") {
  bind();
  Port other = 0;
  CHECK(channels->bind(peer->domid(), remote, other) < 0);
  CHECK(peer->platform().open_event_channels()->bind(peer->domid(), remote, other) < 0);
  channels->unbind(local);
  CHECK(channels->bind(peer->domid(), remote, other) == 0);
}

TEST_CASE_FIXTURE(Fixture, "events: channels that are gone leave their ports for others to bind") {
  bind();
  channels = peer->platform().open_event_channels();
  bind();
  peer->notify(remote);
  CHECK(readable(kSoonMs));
}

TEST_CASE_FIXTURE(Fixture, "events: an unbound port is silent") {
  bind();
  channels->unbind(local);
  peer->notify(remote);
  CHECK_FALSE(readable(20));
  CHECK(channels->take_pending(pending) == 0);
}

TEST_CASE_FIXTURE(Fixture, "events: a short list takes the rest next time") {
  bind();
  std::array<Port, 3> remotes{remote, peer->open_port(), peer->open_port()};
  std::array<Port, 3> locals{local};
  for (size_t i : {1, 2}) {
    REQUIRE(channels->bind(peer->domid(), remotes[i], locals[i]) == 0);
    REQUIRE(readable(kSoonMs));
    REQUIRE(channels->take_pending(pending) == 1);
    channels->unmask(locals[i]);
  }
  for (const Port port : remotes) peer->notify(port);
  REQUIRE(readable(kSoonMs));
  CHECK(channels->take_pending(std::span(pending).first(2)) == 2);
  CHECK(readable(kSoonMs));
  CHECK(channels->take_pending(std::span(pending).first(2)) == 1);
  CHECK_FALSE(readable());
}

TEST_CASE_FIXTURE(Fixture, "events: a port or a domain that is not there cannot be bound") {
  CHECK(channels->bind(peer->domid(), kNeverOpened, local) < 0);
  CHECK(channels->bind(kNobody, remote, local) < 0);
}

TEST_CASE_FIXTURE(Fixture, "events: notifying an end that is closed does no harm") {
  bind();
  peer->close_port(remote);
  channels->notify(local);
  channels->unbind(local);
}

}  // namespace
}  // namespace ringdisk
