// SPDX-License-Identifier: Apache-2.0
// NBD servers that lie, hang, die and come back.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "eventually.h"
#include "nbd_servers.h"
#include "open_now.h"
#include "scripted_nbd_server.h"
#include "target_driver.h"
#include "test_media.h"

namespace ringdisk {
namespace {

using Request = ScriptedNbdServer::Request;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kMib = 1 << 20;

void pause(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Until the client, or the test, has gone.
void hold(const ScriptedNbdServer& server, int fd) {
  std::byte byte;
  while (!server.ends() && ::recv(fd, &byte, 1, 0) > 0) continue;
}

Bytes lie_of(const std::string& kind, const Request& request) {
  Bytes bytes;
  const auto chunk = [&](uint16_t flags, nbd::Chunk type, uint32_t length) {
    nbd::Writer(bytes).number(nbd::kStructuredReplyMagic).number(flags);
    nbd::Writer(bytes).number(static_cast<uint16_t>(type)).number(request.cookie).number(length);
  };
  if (kind == "another's cookie")
    nbd::Writer(bytes).number(nbd::kSimpleReplyMagic).number(0u).number(request.cookie + 1);
  if (kind == "no magic") nbd::Writer(bytes).zeroes(64);
  if (kind == "a huge length") chunk(1, nbd::Chunk::offset_hole, UINT32_MAX);
  if (kind == "nothing of a read") chunk(1, nbd::Chunk::none, 0);
  if (kind == "data elsewhere") {
    chunk(1, nbd::Chunk::offset_data, 512 + 8);
    nbd::Writer(bytes).number(request.offset + request.length).zeroes(512);
  }
  if (kind == "half a header") nbd::Writer(bytes).number(nbd::kSimpleReplyMagic);
  if (kind == "less data than told") {
    nbd::Writer(bytes).number(nbd::kSimpleReplyMagic).number(0u).number(request.cookie);
    nbd::Writer(bytes).zeroes(request.length - 1);
  }
  return bytes;
}

TEST_CASE("an NBD server that lies once costs its connection, and nothing that was asked") {
  if (!has_uring()) return;
  for (const std::string kind :
       {"another's cookie", "no magic", "a huge length", "nothing of a read", "data elsewhere",
        "half a header", "less data than told"}) {
    CAPTURE(kind);
    ScriptedNbdServer server([&](ScriptedNbdServer&, int fd, int nth) {
      if (nth > 0) return ScriptedNbdServer::serve_well(fd);
      ScriptedNbdServer::say(fd, lie_of(kind, ScriptedNbdServer::next(fd)));
      if (kind != "half a header" && kind != "less data than told")
        ScriptedNbdServer::serve_well(fd);
    });
    const auto target = open_target({"nbd", server.path()});
    TargetDriver driver(*target);
    TestMemory memory(4096);
    CHECK(driver.read(8192, memory) == 0);
    CHECK(memory.is_zero());
    CHECK(server.connections() == 2);
  }
}

TEST_CASE("what an NBD server always answers with a lie fails") {
  if (!has_uring()) return;
  ScriptedNbdServer server([](ScriptedNbdServer&, int fd, int) {
    const Request request = ScriptedNbdServer::next(fd);
    if (request.command == nbd::Command::read) ScriptedNbdServer::say(fd, Bytes(64));
  });
  const auto target = open_target({"nbd", server.path()});
  TargetDriver driver(*target);
  TestMemory memory(4096);
  CHECK(driver.read(0, memory) == -EIO);
  CHECK(server.connections() < 10);
}

TEST_CASE("an NBD server that does not answer is waited for, and it is told") {
  if (!has_uring()) return;
  std::atomic<bool> goes_on{false};
  ScriptedNbdServer server([&](ScriptedNbdServer& self, int fd, int) {
    const Request request = ScriptedNbdServer::next(fd);
    while (!goes_on && !self.ends()) pause(1);
    ScriptedNbdServer::answer(fd, request);
    ScriptedNbdServer::serve_well(fd);
  });
  const auto target = open_target({"nbd", server.path()});
  TargetDriver driver(*target);
  std::thread looks([&] {
    CHECK(eventually([&] {
      const std::vector<TargetWait> waits = target->waits(clock_us() - 20'000);
      return waits.size() == 1 && waits[0].call == "NBD request" && waits[0].count == 1;
    }));
    goes_on = true;
  });
  TestMemory memory(4096);
  CHECK(driver.write(0, memory) == 0);
  looks.join();
  CHECK(target->waits(clock_us()).empty());
}

// It shuts the connection down at once, as some do, and works on for it.
TEST_CASE("what an NBD server has not let go of is not sent again before it has") {
  if (!has_uring()) return;
  std::atomic<bool> lets_go{false};
  std::atomic<uint64_t> let_go_us{0};
  std::atomic<uint64_t> came_back_us{0};
  ScriptedNbdServer server([&](ScriptedNbdServer& self, int fd, int nth) {
    if (nth > 0) {
      came_back_us = clock_us();
      return ScriptedNbdServer::serve_well(fd);
    }
    ScriptedNbdServer::next(fd);
    ::shutdown(fd, SHUT_RDWR);
    while (!lets_go && !self.ends()) pause(1);
    let_go_us = clock_us();
  });
  const auto target = open_target({"nbd", server.path()});
  TargetDriver driver(*target);
  std::thread looks([&] {
    CHECK(eventually([&] {
      const std::vector<TargetWait> waits = target->waits(clock_us() - 200'000);
      return waits.size() == 1 && waits[0].call == "NBD connection";
    }));
    CHECK(server.connections() == 1);
    lets_go = true;
  });
  TestMemory memory(4096);
  CHECK(driver.write(0, memory) == 0);
  looks.join();
  CHECK(came_back_us >= let_go_us);
}

TEST_CASE("a dead client's requests are waited for before a take-over writes") {
  if (!has_uring()) return;
  std::atomic<int> held{0};
  std::atomic<bool> lets_go{false};
  ScriptedNbdServer server([&](ScriptedNbdServer& self, int fd, int nth) {
    if (nth > 0) return ScriptedNbdServer::serve_well(fd);
    hold(self, fd);  // the client is gone
    held++;
    while (!lets_go && !self.ends()) pause(1);
  });
  open_only({"nbd", server.path()}).reset();
  REQUIRE(eventually([&] { return held == 1; }));
  const auto target = open_only({"nbd", server.path()});
  std::atomic<bool> lifted{false};
  const TargetAnswer answer = answer_of([&](Target::Answer tell) {
    target->claim({.take_over = true}, std::move(tell), [&](const std::string&) { lifted = true; });
  });
  CHECK(answer.fenced);
  CHECK(target->fenced());
  pause(100);
  CHECK(target->fenced());
  lets_go = true;
  CHECK(eventually([&] { return lifted && !target->fenced(); }));
}

TEST_CASE("an NBD server that has no place for a second connection is used by one channel") {
  if (!has_uring()) return;
  ScriptedNbdServer server(
      [](ScriptedNbdServer&, int fd, int) { ScriptedNbdServer::serve_well(fd); },
      nbd::kHasFlags | nbd::kSendFlush);
  const auto target = open_target({"nbd", server.path()});
  CHECK(target->capabilities().one_channel);
  {
    TargetDriver driver(*target);
    CHECK_THROWS_AS(TargetDriver{*target}, std::system_error);
    CHECK(driver.flush() == 0);
    // The one that it was opened with.
    CHECK(server.connections() == 1);
  }
  TargetDriver next(*target);
  CHECK(next.flush() == 0);
}

TEST_CASE("an NBD server that is not there, or not one, is told of at the open") {
  const auto refusal = [](const std::string& path) -> std::string {
    try {
      open_only({"nbd", path});
    } catch (const std::exception& error) {
      return error.what();
    }
    return "opened";
  };
  CHECK(refusal("/nowhere/nbd.sock")
            .starts_with("cannot reach an NBD server at /nowhere/nbd.sock: No such file"));
  CHECK(refusal("/" + std::string(200, 'a')).find("107 bytes") != std::string::npos);
  ScriptedNbdServer server(
      [](ScriptedNbdServer&, int fd, int) { ScriptedNbdServer::serve_well(fd); },
      ScriptedNbdServer::kFlags | nbd::kReadOnly);
  CHECK(refusal(server.path()).find("lets nobody write there") != std::string::npos);
}

// How a disk looks whose server is killed and started anew, over and over, while it is written.
class Restarts {
 public:
  explicit Restarts(NbdServerProcess& server) : server_(server), thread_([this] { run(); }) {}
  ~Restarts() {
    ends_ = true;
    thread_.join();
  }

 private:
  void run() {
    while (!ends_) {
      pause(150);
      server_.end(SIGKILL);
      pause(50);
      server_.start();
    }
  }

  NbdServerProcess& server_;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

TEST_CASE("an NBD server that is killed under load and comes back loses nothing") {
  if (!has_uring() || !has_program("nbdkit")) return;
  constexpr size_t kBlock = 64u << 10;
  constexpr uint32_t kBlocks = 256;
  const TempFile file(disk_folder(), kBlocks * kBlock);
  NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit", "-f", "-U", socket, "file", file.path()};
  });
  const auto target = open_target({"nbd", server.socket()});
  TargetDriver driver(*target);
  uint32_t seed = 0;
  {
    const Restarts restarts(server);
    const uint64_t until = clock_us() + 2'000'000;
    TestMemory memory(kBlock);
    while (clock_us() < until) {
      seed++;
      for (uint32_t block = 0; block < kBlocks && clock_us() < until; block++) {
        memory.fill(seed * kBlocks + block);
        REQUIRE(driver.write(block * kBlock, memory) == 0);
        REQUIRE(driver.read(block * kBlock, memory) == 0);
        REQUIRE(memory.matches(seed * kBlocks + block));
      }
      REQUIRE(driver.flush() == 0);
    }
  }
  CHECK(seed > 0);
}

TEST_CASE("an NBD server that is gone fails what waits for it, until it is back") {
  if (!has_uring() || !has_program("nbdkit")) return;
  NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit", "-f", "-U", socket, "memory", "16M"};
  });
  const auto target = open_target({"nbd", server.socket()});
  TargetDriver driver(*target);
  TestMemory memory(4096);
  REQUIRE(driver.write(0, memory) == 0);
  server.end(SIGKILL);
  const uint64_t before = clock_us();
  CHECK(driver.write(0, memory) == -EIO);
  CHECK(clock_us() - before >= 1'000'000);
  CHECK(driver.read(0, memory) == -EIO);
  server.start();
  CHECK(eventually([&] {
    driver.turn();
    return driver.read(0, memory) == 0;
  }));
}

TEST_CASE("another disk under the same name is not an NBD disk that came back") {
  if (!has_uring() || !has_program("nbdkit")) return;
  TempFile file(disk_folder(), 4 * kMib);
  NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit", "-f", "-U", socket, "file", file.path()};
  });
  const auto target = open_target({"nbd", server.socket()});
  TargetDriver driver(*target);
  CHECK(driver.flush() == 0);
  server.end(SIGKILL);
  file.resize(kMib);
  server.start();
  CHECK(driver.flush() == -EIO);
  const std::vector<TargetWait> waits = target->waits(clock_us());
  REQUIRE(waits.size() == 1);
  CHECK(waits[0].call == "NBD connection");
  CHECK(waits[0].why.ends_with("came back with an export of 1048576 bytes instead of 4194304"));
  file.resize(8 * kMib);
  server.end(SIGKILL);
  server.start();
  CHECK(eventually([&] {
    driver.turn();
    return driver.flush() == 0;
  }));
  CHECK(target->waits(clock_us()).empty());
  measure_now(*target);
  CHECK(target->capabilities().capacity == 8 * kMib);
}

// A server whose disk becomes another one while the worker is dead as well.
class ExchangedDisk {
 public:
  using Words = std::vector<std::string>;

  explicit ExchangedDisk(Target& target) : target_(target) {}
  void become(NbdServerProcess& server, const Words& options, const Words& values) const {
    server.end(SIGKILL);
    REQUIRE(eventually([&] { return target_.worker() > 0; }));
    REQUIRE(::kill(target_.worker(), SIGKILL) == 0);
    server.start_as(serve(server.socket(), options, values));
  }
  static Words serve(const std::string& socket, const Words& options, const Words& values) {
    Words command{"nbdkit", "-f", "-U", socket};
    command.insert(command.end(), options.begin(), options.end());
    command.emplace_back("memory");
    command.insert(command.end(), values.begin(), values.end());
    return command;
  }

 private:
  Target& target_;
};

TEST_CASE("another disk under the same name is not one either where a worker began anew") {
  if (!has_uring() || !has_program("nbdkit")) return;
  using Words = ExchangedDisk::Words;
  struct Other {
    std::string what;
    Words options;
    Words values;
  };
  const Words policy{"--filter=blocksize-policy"};
  const std::vector<Other> others{
      {"smaller", {}, {"1M"}},
      {"read-only", {"-r"}, {"4M"}},
      {"with one connection only", {"--filter=noparallel"}, {"4M", "serialize=connections"}},
      {"of larger blocks", policy, {"4M", "blocksize-minimum=4096"}},
  };
  for (const Other& other : others) {
    CAPTURE(other.what);
    NbdServerProcess server(
        [](const std::string& socket) { return ExchangedDisk::serve(socket, {}, {"4M"}); });
    const auto target = open_target({"nbd", server.socket()});
    const ExchangedDisk disk(*target);
    TargetDriver driver(*target);
    REQUIRE(driver.flush() == 0);
    disk.become(server, other.options, other.values);
    CHECK(driver.flush() == -EIO);
    disk.become(server, {}, {"8M"});
    CHECK(eventually([&] {
      driver.turn();
      return driver.flush() == 0;
    }));
    measure_now(*target);
    CHECK(target->capabilities().capacity == 8 * kMib);
    // Whoever saw it grow does not take it for what it was before.
    disk.become(server, {}, {"4M"});
    CHECK(driver.flush() == -EIO);
  }
}

}  // namespace
}  // namespace ringdisk
