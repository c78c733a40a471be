// SPDX-License-Identifier: Apache-2.0
// Exports of an engine, and clients of the roughest kind.
#include "nbd/server.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../targets/test_media.h"
#include "engine/engine.h"
#include "engine_results.h"
#include "eventually.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "needs_uring.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

using nbd::Command;
using Bytes = std::vector<std::byte>;

constexpr size_t kMib = 1u << 20;

struct Fixture {
  TempMachine machine;
  Engine engine{make_loopback_platform(machine.dir()),
                {.reactors = 2, .bounce_pool_bytes = 4u << 20},
                nullptr};
  uint32_t next = 1;
  std::string socket = machine.dir() + "/nbd.sock";

  EngineEvent result_of(uint32_t command) { return ringdisk::result_of(engine, command); }
  template <typename Post>
  EngineEvent run(Post post) {
    const uint32_t command = next++;
    post(command);
    return result_of(command);
  }
  uint32_t open(const std::string& kind, const std::string& path) {
    const auto opened = run([&](uint32_t id) { engine.open_target(id, {kind, path, false}); });
    REQUIRE(opened.type == EngineEvent::Type::done);
    run([&](uint32_t id) { engine.claim_target(id, opened.value, {}); });
    return opened.value;
  }
  EngineEvent add(uint32_t target, const std::string& name = "disk") {
    return run([&](uint32_t id) { engine.add_export(id, {target, socket, name, "", false}); });
  }
  EngineEvent remove(uint32_t handle) {
    return run([&](uint32_t id) { engine.remove_export(id, handle); });
  }
  void close(uint32_t target) {
    CHECK(run([&](uint32_t id) { engine.close_target(id, target); }).type ==
          EngineEvent::Type::done);
  }
};

// Blocking; the test's own thread.
class Client {
 public:
  explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    is_in_ = ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  bool is_in() const { return is_in_; }

  void say(const Bytes& bytes) const {
    for (size_t said = 0; said < bytes.size();) {
      const ssize_t now = ::send(fd_.get(), bytes.data() + said, bytes.size() - said, MSG_NOSIGNAL);
      REQUIRE(now > 0);
      said += static_cast<size_t>(now);
    }
  }
  // Empty: the connection is over. The kernel's work for this thread's rings ends a call early.
  Bytes hear(size_t bytes) const {
    Bytes heard(bytes);
    for (size_t have = 0; have < bytes;) {
      const ssize_t now = ::recv(fd_.get(), heard.data() + have, bytes - have, 0);
      if (now < 0 && errno == EINTR) continue;
      if (now <= 0) return {};
      have += static_cast<size_t>(now);
    }
    return heard;
  }
  // Whatever is still said before that.
  bool is_over() const {
    while (!hear(1).empty()) continue;
    return true;
  }
  void hang_up() { fd_.reset(); }

  // In the oldest way: simple answers.
  void choose(const std::string& name) const {
    hear(18);
    Bytes said;
    nbd::Writer(said)
        .number(uint32_t{nbd::kFixedNewstyle | nbd::kNoZeroes})
        .number(nbd::kOptionMagic)
        .number(static_cast<uint32_t>(nbd::Option::export_name))
        .number(static_cast<uint32_t>(name.size()))
        .text(name);
    say(said);
    CHECK(hear(10).size() == 10);
  }
  void ask(Command command, uint64_t offset, uint32_t length, uint16_t flags = 0) const {
    Bytes said;
    nbd::Writer(said)
        .number(nbd::kRequestMagic)
        .number(flags)
        .number(static_cast<uint16_t>(command))
        .number(offset + 1)
        .number(offset)
        .number(length);
    say(said);
  }
  // The answer's error; UINT32_MAX: there is none.
  uint32_t answer() const {
    const Bytes heard = hear(nbd::kSimpleReplyBytes);
    return heard.empty() ? UINT32_MAX : nbd::get<uint32_t>(heard.data() + 4);
  }

 private:
  Fd fd_;
  bool is_in_ = false;
};

TEST_CASE("nbd_server: writes_and_reads_back") {
  if (!has_io_uring()) return;
  Fixture f;
  const TempFile file(disk_folder(), 8 * kMib);
  const uint32_t target = f.open("file", file.path());
  const uint32_t handle = f.add(target).value;
  struct stat status{};
  CHECK(::stat(f.socket.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  {
    const Client client(f.socket);
    client.choose("disk");
    const Bytes data(3 * kMib, std::byte{7});
    client.ask(Command::write, 4096, 3 * kMib, nbd::kFua);
    client.say(data);
    CHECK(client.answer() == 0);
    client.ask(Command::read, 4096, 3 * kMib);
    CHECK(client.answer() == 0);
    CHECK(client.hear(3 * kMib) == data);
    client.ask(Command::write_zeroes, 4096, kMib);
    CHECK(client.answer() == 0);
    client.ask(Command::read, 4096, 4096);
    CHECK(client.answer() == 0);
    CHECK(client.hear(4096) == Bytes(4096));
    client.ask(Command::flush, 0, 0);
    CHECK(client.answer() == 0);
    client.ask(Command::trim, 0, kMib);
    CHECK(client.answer() == 0);
    client.ask(Command::read, 8 * kMib, 512);
    CHECK(client.answer() == 22);
    client.ask(Command::disconnect, 0, 0);
    CHECK(client.is_over());
  }
  CHECK(eventually([&] { return f.engine.export_counters(handle).empty(); }));
  CHECK(f.run([&](uint32_t id) { f.engine.close_target(id, target); }).error == EBUSY);
  CHECK(f.remove(handle).type == EngineEvent::Type::done);
  CHECK(::access(f.socket.c_str(), F_OK) != 0);
  f.close(target);
}

TEST_CASE("nbd_server: a_refused_write_is_passed_over_whole") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open("null", std::to_string(kMib));
  const uint32_t handle = f.add(target).value;
  const Client client(f.socket);
  client.choose("disk");
  client.ask(Command::write, kMib, 2 * kMib);
  client.say(Bytes(2 * kMib, std::byte{0x25}));
  CHECK(client.answer() == 28);
  client.ask(Command::read, 0, 512);
  CHECK(client.answer() == 0);
  f.remove(handle);
  f.close(target);
}

TEST_CASE("nbd_server: an_export_goes_with_its_clients_whatever_they_do") {
  if (!has_io_uring()) return;
  Fixture f;
  const TempFile file(disk_folder(), 8 * kMib);
  const uint32_t target = f.open("file", file.path());
  const uint32_t handle = f.add(target).value;
  std::vector<Client> clients;
  for (int i = 0; i < 12; i++) clients.emplace_back(f.socket);
  // Some say nothing, some stop in the middle of a word or a request, some never listen.
  for (int i = 3; i < 12; i++) clients[static_cast<size_t>(i)].choose("disk");
  clients[1].say(Bytes(2));
  clients[4].say(Bytes(7));
  clients[5].ask(Command::write, 0, kMib);
  clients[5].say(Bytes(1000));
  for (size_t i = 6; i < 12; i++)
    for (int n = 0; n < 100; n++) clients[i].ask(Command::read, 0, kMib);
  for (size_t i = 10; i < 12; i++) clients[i].hang_up();
  CHECK(f.remove(handle).type == EngineEvent::Type::done);
  for (size_t i = 0; i < 6; i++) CHECK(clients[i].is_over());
  f.close(target);
}

TEST_CASE("nbd_server: the_last_word_of_who_wrote_counts") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open("null", std::to_string(kMib));
  const uint32_t handle = f.add(target).value;
  const auto visit = [&](Command command, bool says_goodbye) {
    Client client(f.socket);
    client.choose("disk");
    client.ask(command, 0, command == Command::flush ? 0 : 512);
    CHECK(client.answer() == 0);
    if (says_goodbye) client.ask(Command::disconnect, 0, 0);
    client.hang_up();
    CHECK(eventually([&] { return f.engine.export_counters(handle).empty(); }));
  };
  visit(Command::flush, true);
  CHECK(f.engine.export_goodbyes(handle) == 1);
  // Who only looks has no say.
  visit(Command::read, false);
  CHECK(f.engine.export_goodbyes(handle) == 1);
  // It was in the middle of something.
  visit(Command::flush, false);
  CHECK(f.engine.export_goodbyes(handle) == 0);
  // Nor has one that is lost late, and came again meanwhile.
  Client lost(f.socket);
  lost.choose("disk");
  lost.ask(Command::flush, 0, 0);
  CHECK(lost.answer() == 0);
  {
    const Client again(f.socket);
    again.choose("disk");
    again.ask(Command::flush, 0, 0);
    CHECK(again.answer() == 0);
    again.ask(Command::disconnect, 0, 0);
    CHECK(again.is_over());
  }
  lost.hang_up();
  CHECK(eventually([&] { return f.engine.export_counters(handle).empty(); }));
  CHECK(f.engine.export_goodbyes(handle) == 1);
  f.remove(handle);
  f.close(target);
}

TEST_CASE("nbd_server: exports_that_share_a_socket_come_and_go_alone") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open("null", std::to_string(kMib));
  const uint32_t one = f.add(target, "one").value;
  const uint32_t two = f.add(target, "two").value;
  CHECK(f.add(target, "two").error == EEXIST);
  const Client first(f.socket), second(f.socket);
  first.choose("one");
  second.choose("two");
  f.remove(one);
  CHECK(first.is_over());
  second.ask(Command::read, 0, 512);
  CHECK(second.answer() == 0);
  f.remove(two);
  CHECK(second.is_over());
  CHECK(!Client(f.socket).is_in());
  // The place is free again.
  const uint32_t again = f.add(target, "one").value;
  CHECK(Client(f.socket).is_in());
  f.remove(again);
  f.close(target);
}

// One sector in two minutes, after the first: who waits for a token waits for ever.
constexpr LimitRates kNearlyNone{.bytes = {.both = 4}};

TEST_CASE("nbd_server: clients_of_a_limited_export_share_its_tokens") {
  if (!has_io_uring()) return;
  Fixture f;
  f.engine.set_limits("few", kNearlyNone);
  const uint32_t target = f.open("null", std::to_string(kMib));
  ExportRequest request{.target = target, .path = f.socket, .name = "disk", .limits = "fw"};
  const auto add = [&] { return f.run([&](uint32_t id) { f.engine.add_export(id, request); }); };
  CHECK(add().error == EINVAL);
  request.limits = "few";
  const uint32_t handle = add().value;
  const Client first(f.socket), second(f.socket);
  first.choose("disk");
  second.choose("disk");
  const auto ask = [](const Client& client) { client.ask(Command::read, 0, 512); };
  const auto is_answered = [](const Client& client) {
    CHECK(client.answer() == 0);
    CHECK(client.hear(512).size() == 512);
  };
  const auto waiting = [&] {
    uint64_t all = 0;
    for (const auto& counters : f.engine.export_counters(handle))
      all += counters->waiting_for_tokens.get();
    return all;
  };
  const auto await = [&](uint64_t count) {
    REQUIRE(eventually([&] { return waiting() == count; }));
  };
  ask(first);
  is_answered(first);
  for (const Client* client : {&first, &second}) ask(*client);
  await(2);
  // A flush never waits.
  second.ask(Command::flush, 0, 0);
  CHECK(second.answer() == 0);
  const Client third(f.socket);
  third.choose("disk");
  ask(third);
  await(3);
  SUBCASE("none for those that wait") {
    f.engine.limit_export(handle, "");
    for (const Client* client : {&first, &second, &third}) is_answered(*client);
    ask(first);
    is_answered(first);
    f.engine.limit_export(handle, "few");
    const Client fourth(f.socket);
    fourth.choose("disk");
    for (const Client* client : {&first, &fourth}) ask(*client);
    await(2);
  }
  SUBCASE("other rates for those that wait") {
    f.engine.set_limits("few", {.bytes = {.both = 1u << 30}});
    for (const Client* client : {&first, &second, &third}) is_answered(*client);
  }
  // Nobody waits for tokens at the end.
  CHECK(f.remove(handle).type == EngineEvent::Type::done);
  for (const Client* client : {&first, &second, &third}) CHECK(client->is_over());
  CHECK_THROWS_AS(f.engine.limit_export(handle, ""), std::invalid_argument);
  f.close(target);
}

TEST_CASE("nbd_server: a_socket_in_use_is_refused_and_a_deserted_one_replaced") {
  if (!has_io_uring()) return;
  Fixture f, other;
  const uint32_t target = f.open("null", std::to_string(kMib));
  const uint32_t others = other.open("null", std::to_string(kMib));
  other.socket = f.socket;
  const uint32_t handle = f.add(target).value;
  CHECK(other.add(others).error == EADDRINUSE);
  f.remove(handle);
  {
    const Fd deserted = nbd::listen_on(f.socket);
  }
  CHECK(::access(f.socket.c_str(), F_OK) == 0);
  const auto added = other.add(others);
  CHECK(added.type == EngineEvent::Type::done);
  other.remove(added.value);
  other.close(others);
  f.close(target);
}

TEST_CASE("nbd_server: what_is_no_socket_is_not_removed") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open("null", std::to_string(kMib));
  std::ofstream(f.socket) << "data";
  CHECK(f.add(target).error == EADDRINUSE);
  CHECK(::access(f.socket.c_str(), F_OK) == 0);
  f.close(target);
}

TEST_CASE("nbd_server: too_many_clients_are_not_let_in") {
  if (!has_io_uring()) return;
  Fixture f;
  const uint32_t target = f.open("null", std::to_string(kMib));
  const uint32_t handle = f.add(target).value;
  std::vector<Client> clients;
  for (size_t i = 0; i < nbd::kConnectionsMax; i++) {
    clients.emplace_back(f.socket);
    clients.back().choose("disk");
  }
  const Client late(f.socket);
  CHECK(late.is_over());
  clients.back().hang_up();
  CHECK(eventually([&] { return !Client(f.socket).hear(18).empty(); }));
  f.remove(handle);
  f.close(target);
}

}  // namespace
}  // namespace ringdisk
