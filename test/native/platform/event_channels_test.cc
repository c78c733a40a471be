// SPDX-License-Identifier: Apache-2.0
// The contract of EventChannels, on the loopback machine.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>

#include "platform/loopback/domain.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr Domid kDomid = 7;
constexpr int kSoonMs = 2000;

bool readable(const EventChannels& channels) {
  pollfd one{channels.fd(), POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

struct Fixture {
  TempMachine machine;
  LoopbackDomain guest{machine.dir(), kDomid, 8};
  std::unique_ptr<Platform> platform = make_loopback_platform(machine.dir());
  std::unique_ptr<EventChannels> channels = platform->open_event_channels();
  Port remote = guest.open_port();
  Port local = 0;
  std::array<Port, 4> pending{};

  // Binds and takes the event every fresh binding has.
  void bind() {
    REQUIRE(channels->bind(kDomid, remote, local) == 0);
    REQUIRE(channels->take_pending(pending) == 1);
    CHECK(pending[0] == local);
    channels->unmask(local);
  }
};

TEST_CASE_FIXTURE(Fixture, "a freshly bound port is pending once") {
  bind();
  CHECK_FALSE(readable(*channels));
  CHECK(channels->take_pending(pending) == 0);
}

TEST_CASE_FIXTURE(Fixture, "many notifications make one event") {
  bind();
  for (int i = 0; i < 10'000; i++) guest.notify(remote);
  CHECK(readable(*channels));
  REQUIRE(channels->take_pending(pending) == 1);
  channels->unmask(local);
  CHECK_FALSE(readable(*channels));
}

TEST_CASE_FIXTURE(Fixture, "a masked port is quiet and keeps what arrives until unmask") {
  bind();
  guest.notify(remote);
  REQUIRE(channels->take_pending(pending) == 1);
  guest.notify(remote);
  CHECK_FALSE(readable(*channels));
  CHECK(channels->take_pending(pending) == 0);
  channels->unmask(local);
  CHECK(readable(*channels));
  CHECK(channels->take_pending(pending) == 1);
}

TEST_CASE_FIXTURE(Fixture, "notify wakes the guest, once for many") {
  bind();
  CHECK_FALSE(guest.wait(remote, 0));
  for (int i = 0; i < 10'000; i++) channels->notify(local);
  CHECK(guest.wait(remote, kSoonMs));
  CHECK_FALSE(guest.wait(remote, 0));
}

TEST_CASE_FIXTURE(Fixture, "a port can be bound once at a time") {
  bind();
  Port other = 0;
  CHECK(channels->bind(kDomid, remote, other) == -EINVAL);
  CHECK(platform->open_event_channels()->bind(kDomid, remote, other) == -EINVAL);
  channels->unbind(local);
  CHECK(channels->bind(kDomid, remote, other) == 0);
}

TEST_CASE_FIXTURE(Fixture, "an unbound port is silent") {
  bind();
  channels->unbind(local);
  guest.notify(remote);
  CHECK_FALSE(readable(*channels));
  CHECK(channels->take_pending(pending) == 0);
}

TEST_CASE_FIXTURE(Fixture, "a short list takes the rest next time") {
  bind();
  std::array<Port, 3> remotes{remote, guest.open_port(), guest.open_port()};
  Port ignored = 0;
  REQUIRE(channels->bind(kDomid, remotes[1], ignored) == 0);
  REQUIRE(channels->bind(kDomid, remotes[2], ignored) == 0);
  for (const Port port : remotes) guest.notify(port);
  CHECK(channels->take_pending(std::span(pending).first(2)) == 2);
  CHECK(readable(*channels));
  CHECK(channels->take_pending(std::span(pending).first(2)) == 1);
  CHECK_FALSE(readable(*channels));
}

TEST_CASE_FIXTURE(Fixture, "a port or a domain that is not there cannot be bound") {
  CHECK(channels->bind(kDomid, 4711, local) == -ENOENT);
  CHECK(channels->bind(99, remote, local) == -ENOENT);
}

TEST_CASE_FIXTURE(Fixture, "a port that is not a FIFO cannot be bound") {
  const std::string dir = domain_dir(machine.dir(), kDomid);
  std::filesystem::create_symlink("/dev/null", to_backend_path(dir, 50));
  CHECK(channels->bind(kDomid, 50, local) < 0);
  std::ofstream(to_backend_path(dir, 51)) << "x";
  CHECK(channels->bind(kDomid, 51, local) == -EINVAL);
}

TEST_CASE_FIXTURE(Fixture, "notifying a guest that is gone does no harm") {
  bind();
  guest.close_port(remote);
  channels->notify(local);
  channels->unbind(local);
}

}  // namespace
}  // namespace ringdisk
