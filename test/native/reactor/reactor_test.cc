// SPDX-License-Identifier: Apache-2.0
#include "reactor/reactor.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <chrono>
#include <future>
#include <string>
#include <system_error>
#include <thread>

#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/domain.h"
#include "platform/loopback/loopback_platform.h"
#include "queue_rig.h"

namespace ringdisk {
namespace {

// Does what it is told and counts what it is asked.
class TestPoller final : public Poller {
 public:
  bool poll() override {
    polls++;
    return busy;
  }
  void finish() override { finishes++; }
  bool try_sleep() override { return may_sleep; }
  void on_deadline(uint64_t now_us) override {
    deadlines++;
    late_us = now_us - wanted_us;
  }
  void on_event() override { events++; }

  std::atomic<bool> busy{false};
  std::atomic<bool> may_sleep{true};
  std::atomic<uint64_t> polls{0}, finishes{0}, deadlines{0}, events{0}, late_us{0};
  uint64_t wanted_us = 0;
};

struct Fixture {
  TempMachine machine;
  std::unique_ptr<Platform> platform = make_loopback_platform(machine.dir());
  LoopbackDomain guest{machine.dir(), 1, 64};
  Reactor reactor{*platform, probe_uring(), {}};

  // Binds a port of the guest's and adds the poller to it. Returns both ports.
  struct Ports {
    Port remote, local;
  };
  Ports add(TestPoller& poller) {
    Ports ports{guest.open_port(), 0};
    run_on(reactor, [&] {
      REQUIRE(reactor.bind(1, ports.remote, ports.local) == 0);
      reactor.add(poller, ports.local);
    });
    return ports;
  }
  void remove(TestPoller& poller, Ports ports) {
    run_on(reactor, [&] {
      reactor.remove(poller, ports.local);
      reactor.unbind(ports.local);
    });
  }
};

TEST_CASE("reactor: runs commands in order, on its own thread") {
  if (!has_io_uring()) return;
  Fixture f;
  std::vector<int> ran;
  std::thread::id thread;
  for (int i = 0; i < 100; i++)
    REQUIRE(f.reactor.post([&, i] {
      ran.push_back(i);
      thread = std::this_thread::get_id();
    }));
  run_on(f.reactor, [] {});
  REQUIRE(ran.size() == 100);
  for (int i = 0; i < 100; i++) CHECK(ran[static_cast<size_t>(i)] == i);
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("reactor: idle means no wake-ups at all") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller poller;
  const auto ports = f.add(poller);
  REQUIRE(eventually([&] { return poller.events == 1; }));  // the one every binding begins with
  // Asleep when the count of sleeps is one ahead, twice in a row.
  const ReactorCounters& counters = f.reactor.counters();
  REQUIRE(eventually([&] { return counters.sleeps.get() == counters.wakeups.get() + 1; }));
  const uint64_t wakeups = counters.wakeups.get();
  const uint64_t enters = counters.uring_enters.get();
  const uint64_t polls = poller.polls;
  // Nothing can be waited for where nothing is to happen.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(counters.wakeups.get() == wakeups);
  CHECK(counters.uring_enters.get() == enters);
  CHECK(poller.polls == polls);
  f.remove(poller, ports);
}

TEST_CASE("reactor: an event wakes it, its port masked until somebody unmasks it") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller poller;
  const auto ports = f.add(poller);
  REQUIRE(eventually([&] { return poller.events == 1; }));
  f.guest.notify(ports.remote);
  f.guest.notify(ports.remote);
  for (int i = 0; i < 3; i++) run_on(f.reactor, [] {});
  CHECK(poller.events == 1);
  run_on(f.reactor, [&] { f.reactor.unmask(ports.local); });
  CHECK(eventually([&] { return poller.events == 2; }));
  f.remove(poller, ports);
}

TEST_CASE("reactor: more ports than one call hands over, pending at once, are all told") {
  if (!has_io_uring()) return;
  Fixture f;
  constexpr size_t kPorts = 300;
  std::vector<TestPoller> pollers(kPorts);
  std::vector<Fixture::Ports> ports(kPorts);
  for (Fixture::Ports& one : ports) one.remote = f.guest.open_port();
  // One command, so that all of them are pending before the first is looked at.
  run_on(f.reactor, [&] {
    for (size_t i = 0; i < kPorts; i++) {
      REQUIRE(f.reactor.bind(1, ports[i].remote, ports[i].local) == 0);
      f.reactor.add(pollers[i], ports[i].local);
    }
  });
  for (const TestPoller& poller : pollers) REQUIRE(eventually([&] { return poller.events == 1; }));
  for (size_t i = 0; i < kPorts; i++) f.remove(pollers[i], ports[i]);
}

TEST_CASE("reactor: a deadline wakes it, once") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller poller;
  const auto ports = f.add(poller);
  run_on(f.reactor, [&] {
    poller.wanted_us = Reactor::now_us() + 20'000;
    f.reactor.wake_by(poller, poller.wanted_us);
  });
  REQUIRE(eventually([&] { return poller.deadlines == 1; }));
  CHECK(poller.late_us < 1'000'000);  // never early: it would have wrapped
  for (int i = 0; i < 3; i++) run_on(f.reactor, [] {});
  CHECK(poller.deadlines == 1);
  f.remove(poller, ports);
}

TEST_CASE("reactor: a deadline fires while another poller is busy all the time") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller busy;
  TestPoller patient;
  busy.busy = true;
  busy.may_sleep = false;
  const auto busy_ports = f.add(busy);
  const auto patient_ports = f.add(patient);
  const uint64_t sleeps = f.reactor.counters().sleeps.get();
  run_on(f.reactor, [&] {
    patient.wanted_us = Reactor::now_us() + 5000;
    f.reactor.wake_by(patient, patient.wanted_us);
  });
  CHECK(eventually([&] { return patient.deadlines == 1; }));
  CHECK(f.reactor.counters().sleeps.get() == sleeps);
  f.remove(busy, busy_ports);
  f.remove(patient, patient_ports);
}

TEST_CASE("reactor: beside a busy poller, one that finds nothing rests until its event") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller busy;
  TestPoller idle;
  busy.busy = true;
  const auto busy_ports = f.add(busy);
  const auto idle_ports = f.add(idle);
  const auto rests = [&] {
    const uint64_t polls = idle.polls;
    const uint64_t others = busy.polls;
    return eventually([&] { return busy.polls > others + 1000; }) && idle.polls == polls;
  };
  CHECK(eventually(rests));
  // One may have come when it was bound, and masked the port.
  run_on(f.reactor, [&] { f.reactor.unmask(idle_ports.local); });
  const uint64_t polls = idle.polls;
  f.guest.notify(idle_ports.remote);
  CHECK(eventually([&] { return idle.polls > polls; }));
  CHECK(eventually(rests));
  f.remove(busy, busy_ports);
  f.remove(idle, idle_ports);
}

TEST_CASE("reactor: who is alone is looked at for as long as the poll budget says") {
  if (!has_io_uring()) return;
  Fixture f;
  const std::chrono::seconds budget(60);
  ReactorOptions options;
  options.poll_budget_us = static_cast<uint32_t>(std::chrono::microseconds(budget).count());
  Reactor reactor(*f.platform, probe_uring(), options);
  TestPoller poller;
  Port port = 0;
  run_on(reactor, [&] {
    REQUIRE(reactor.bind(1, f.guest.open_port(), port) == 0);
    reactor.add(poller, port);
  });
  REQUIRE(eventually([&] { return poller.events == 1; }));
  const uint64_t sleeps = reactor.counters().sleeps.get();
  const uint64_t polls = poller.polls;
  CHECK(eventually([&] { return poller.polls > polls + 10'000; }));
  CHECK(reactor.counters().sleeps.get() == sleeps);
  run_on(reactor, [&] {
    reactor.remove(poller, port);
    reactor.unbind(port);
  });
}

TEST_CASE("reactor: nobody sleeps while one poller has found work") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller poller;
  poller.may_sleep = false;
  const auto ports = f.add(poller);
  const uint64_t polls = poller.polls;
  CHECK(eventually([&] { return poller.polls > polls + 10'000; }));
  poller.may_sleep = true;
  const ReactorCounters& counters = f.reactor.counters();
  CHECK(eventually([&] { return counters.sleeps.get() == counters.wakeups.get() + 1; }));
  f.remove(poller, ports);
}

TEST_CASE("reactor: later() runs after the round, when a poller may be deleted") {
  if (!has_io_uring()) return;
  Fixture f;
  auto poller = std::make_unique<TestPoller>();
  const auto ports = f.add(*poller);
  std::promise<void> gone;
  REQUIRE(f.reactor.post([&] {
    f.reactor.activate(*poller);
    f.reactor.mark_dirty(*poller);
    f.reactor.mark_blocked(*poller);
    f.reactor.later([&] {
      CHECK(poller->finishes == 1);
      f.reactor.remove(*poller, ports.local);
      f.reactor.unbind(ports.local);
      poller.reset();
      gone.set_value();
    });
  }));
  REQUIRE(gone.get_future().wait_for(std::chrono::seconds(10)) == std::future_status::ready);
  run_on(f.reactor, [] {});  // still turns
  CHECK(f.reactor.counters().bound_ports.get() == 0);
}

TEST_CASE("reactor: finish() is called once per round, and wakes those who are blocked") {
  if (!has_io_uring()) return;
  Fixture f;
  TestPoller finishing;
  TestPoller blocked;
  const auto finishing_ports = f.add(finishing);
  const auto blocked_ports = f.add(blocked);
  const ReactorCounters& counters = f.reactor.counters();
  REQUIRE(eventually([&] { return blocked.events == 1 && finishing.events == 1; }));
  REQUIRE(eventually([&] { return counters.sleeps.get() == counters.wakeups.get() + 1; }));
  const uint64_t polls = blocked.polls;
  run_on(f.reactor, [&] { f.reactor.mark_blocked(blocked); });
  for (int i = 0; i < 3; i++) run_on(f.reactor, [] {});
  CHECK(blocked.polls == polls);  // nothing has finished
  run_on(f.reactor, [&] {
    f.reactor.mark_dirty(finishing);
    f.reactor.mark_dirty(finishing);
  });
  CHECK(eventually([&] { return blocked.polls > polls; }));
  CHECK(finishing.finishes == 1);
  f.remove(finishing, finishing_ports);
  f.remove(blocked, blocked_ports);
}

TEST_CASE("reactor: says what could not be set up") {
  if (!has_io_uring()) return;
  TempMachine machine;
  const auto platform = make_loopback_platform(machine.dir());
  ReactorOptions options;
  options.cpu = CPU_SETSIZE - 1;
  try {
    const Reactor reactor(*platform, probe_uring(), options);
    FAIL("pinned to a CPU that is not there");
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()).find("cannot pin a reactor to CPU") != std::string::npos);
  }
}

}  // namespace
}  // namespace ringdisk
