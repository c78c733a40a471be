// SPDX-License-Identifier: Apache-2.0
// What the fence of NBD targets rests on, for each server: it closes its end of a connection whose
// client is gone only when what that asked for is over.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine_results.h"
#include "eventually.h"
#include "medium/nbd_link.h"
#include "nbd_servers.h"
#include "open_now.h"
#include "platform/loopback/loopback_platform.h"
#include "target_driver.h"
#include "temp_machine.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr size_t kBytes = 4096;

// Writes, and dies before the answer.
void write_and_die(const std::string& address, std::byte value) {
  const NbdLink link = connect_nbd(NbdAddress::parse(address));
  std::vector<std::byte> request;
  nbd::Writer(request).number(nbd::kRequestMagic).number(uint16_t{0}).number(uint16_t{1});
  nbd::Writer(request).number(uint64_t{1}).number(uint64_t{0}).number(uint32_t{kBytes});
  request.resize(request.size() + kBytes, value);
  REQUIRE(::send(link.socket.get(), request.data(), request.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(request.size()));
}

std::byte first_byte(const TempFile& file) {
  const Fd fd(::open(file.path().c_str(), O_RDONLY | O_CLOEXEC));
  std::byte byte{};
  REQUIRE(::pread(fd.get(), &byte, 1, 0) == 1);
  return byte;
}

void check_fence(const std::string& address, const TempFile& file) {
  constexpr std::byte kValue{0x77};
  const auto target = open_only({"nbd", address});
  write_and_die(address, kValue);
  std::atomic<bool> lifted{false};
  const TargetAnswer answer = answer_of([&](Target::Answer tell) {
    target->claim({.take_over = true}, std::move(tell), [&](const std::string&) { lifted = true; });
  });
  CHECK(answer.fenced);
  CHECK(first_byte(file) == std::byte{0});
  REQUIRE(eventually([&] { return lifted.load(); }));
  CHECK(first_byte(file) == kValue);
}

// A file behind nbdkit whose writes take half a second.
struct SlowFile {
  TempFile file{disk_folder(), 1 << 20};
  NbdServerProcess server{[this](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit", "-f", "-U", socket, "--filter=delay", "file", file.path(), "wdelay=500ms"};
  }};
};

TEST_CASE("nbdkit closes a dead client's connection when its writes are over") {
  if (!has_uring() || !has_program("nbdkit")) return;
  // Not the delay filter, which gives a write up when its client goes.
  const TempFile file(disk_folder(), 1 << 20);
  const std::string dd = "dd conv=notrunc oflag=seek_bytes status=none seek=$4 of=" + file.path();
  const NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit",       "-f",
            "-U",           socket,
            "eval",         "get_size=echo 1M",
            "pread=exit 1", "pwrite=sleep 0.5; " + dd};
  });
  check_fence(server.socket(), file);
}

TEST_CASE("qemu-storage-daemon closes a dead client's connection when its writes are over") {
  if (!has_uring() || !has_program("nbdkit") || !has_program("qemu-storage-daemon")) return;
  const SlowFile slow;
  const NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"qemu-storage-daemon",
            "--blockdev",
            "nbd,node-name=disk,server.type=unix,server.path=" + slow.server.socket(),
            "--nbd-server",
            "addr.type=unix,addr.path=" + socket,
            "--export",
            "nbd,id=disk,node-name=disk,name=disk,writable=on"};
  });
  check_fence(server.socket() + ":exportname=disk", slow.file);
}

TEST_CASE("our own NBD server closes a dead client's connection when its writes are over") {
  if (!has_uring() || !has_program("nbdkit")) return;
  const SlowFile slow;
  const TempMachine machine;
  Engine engine(make_loopback_platform(machine.dir()),
                {.reactors = 1, .bounce_pool_bytes = 4u << 20}, nullptr);
  const std::string socket = machine.dir() + "/nbd.sock";
  engine.open_target(1, {"nbd", slow.server.socket(), false});
  const uint32_t target = result_of(engine, 1).value;
  engine.claim_target(2, target, {});
  result_of(engine, 2);
  engine.add_export(3, {target, socket, "disk", "", false});
  const uint32_t exported = result_of(engine, 3).value;
  check_fence(socket + ":exportname=disk", slow.file);
  engine.remove_export(4, exported);
  result_of(engine, 4);
  engine.close_target(5, target);
  result_of(engine, 5);
}

}  // namespace
}  // namespace ringdisk
