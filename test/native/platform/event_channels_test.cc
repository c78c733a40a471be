// SPDX-License-Identifier: Apache-2.0
// What the loopback machine's event channels do beyond the contract (contract/).
#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>

#include "platform/loopback/domain.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr Domid kDomid = 7;
constexpr int kSoonMs = 2000;

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
    REQUIRE(channels->port_calls()->take_pending(pending) == 1);
    CHECK(pending[0] == local);
    channels->port_calls()->unmask(local);
  }
};

TEST_CASE_FIXTURE(Fixture, "notify wakes the guest, once for many") {
  bind();
  CHECK_FALSE(guest.wait(remote, 0));
  for (int i = 0; i < 10'000; i++) channels->notify(local);
  CHECK(guest.wait(remote, kSoonMs));
  CHECK_FALSE(guest.wait(remote, 0));
}

TEST_CASE_FIXTURE(Fixture, "a short list takes the rest next time") {
  PortCalls& calls = *channels->port_calls();
  std::array<Port, 3> locals{};
  for (Port& port : locals) REQUIRE(channels->bind(kDomid, guest.open_port(), port) == 0);
  CHECK(calls.take_pending(std::span(pending).first(2)) == 2);
  CHECK(calls.take_pending(std::span(pending).first(2)) == 1);
  CHECK(calls.take_pending(pending) == 0);
}

TEST_CASE_FIXTURE(Fixture, "a port that is not a FIFO cannot be bound") {
  const std::string dir = domain_dir(machine.dir(), kDomid);
  std::filesystem::create_symlink("/dev/null", to_backend_path(dir, 50));
  CHECK(channels->bind(kDomid, 50, local) < 0);
  std::ofstream(to_backend_path(dir, 51)) << "x";
  CHECK(channels->bind(kDomid, 51, local) == -EINVAL);
}

}  // namespace
}  // namespace ringdisk
