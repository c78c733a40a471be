// SPDX-License-Identifier: Apache-2.0
// An NBD server in a thread of the test: it negotiates as it should, and then does what it is told
// to, be it right or wrong.
#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "protocol/nbd_wire.h"

namespace ringdisk {

class ScriptedNbdServer {
 public:
  struct Request {
    nbd::Command command{};
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  // One connection, the `nth`; it is closed when this returns.
  using Serve = std::function<void(ScriptedNbdServer&, int fd, int nth)>;

  static constexpr uint16_t kFlags = nbd::kHasFlags | nbd::kSendFlush | nbd::kCanMultiConn;

  explicit ScriptedNbdServer(Serve serve, uint16_t flags = kFlags)
      : serve_(std::move(serve)), flags_(flags), folder_(make_folder()) {
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_.get(), 8) == 0);
    thread_ = std::thread([this] { run(); });
  }
  ~ScriptedNbdServer() {
    ends_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& one : connections_) one.join();
    std::filesystem::remove_all(folder_);
  }
  ScriptedNbdServer(const ScriptedNbdServer&) = delete;
  ScriptedNbdServer& operator=(const ScriptedNbdServer&) = delete;

  std::string path() const { return folder_ + "/nbd.sock"; }
  int connections() const { return count_; }
  bool ends() const { return ends_; }
  static constexpr uint64_t kSize = 1 << 20;

  // False: the client is gone.
  static bool hear(int fd, void* to, size_t count) {
    return count == 0 || ::recv(fd, to, count, MSG_WAITALL) == static_cast<ssize_t>(count);
  }
  static void say(int fd, const std::vector<std::byte>& bytes) {
    for (size_t said = 0; said < bytes.size();) {
      const ssize_t now = ::send(fd, bytes.data() + said, bytes.size() - said, MSG_NOSIGNAL);
      if (now <= 0) return;
      said += static_cast<size_t>(now);
    }
  }
  // Nothing but `nbd::Command::disconnect`: the client is gone.
  static Request next(int fd) {
    std::byte header[nbd::kRequestBytes];
    if (!hear(fd, header, sizeof header)) return {.command = nbd::Command::disconnect};
    Request request{.command = static_cast<nbd::Command>(nbd::get<uint16_t>(header + 6)),
                    .cookie = nbd::get<uint64_t>(header + 8),
                    .offset = nbd::get<uint64_t>(header + 16),
                    .length = nbd::get<uint32_t>(header + 24)};
    std::vector<std::byte> data(request.command == nbd::Command::write ? request.length : 0);
    if (!hear(fd, data.data(), data.size())) return {.command = nbd::Command::disconnect};
    return request;
  }
  // As a server should.
  static void answer(int fd, const Request& request) {
    std::vector<std::byte> bytes;
    nbd::Writer(bytes).number(nbd::kSimpleReplyMagic).number(uint32_t{0}).number(request.cookie);
    if (request.command == nbd::Command::read) nbd::Writer(bytes).zeroes(request.length);
    say(fd, bytes);
  }
  static void serve_well(int fd) {
    for (;;) {
      const Request request = next(fd);
      if (request.command == nbd::Command::disconnect) return;
      answer(fd, request);
    }
  }

 private:
  static std::string make_folder() {
    std::string folder = std::filesystem::temp_directory_path().string() + "/rd-nbd-XXXXXX";
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    return folder;
  }

  void run() {
    for (;;) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const int nth = count_++;
      {
        const std::lock_guard lock(mutex_);
        open_.push_back(fd);
      }
      connections_.emplace_back([this, fd, nth] {
        if (greet(fd)) serve_(*this, fd, nth);
        const std::lock_guard lock(mutex_);
        std::erase(open_, fd);
        ::close(fd);
      });
    }
  }

  bool greet(int fd) const {
    using nbd::Writer;
    std::vector<std::byte> out;
    Writer(out).number(nbd::kGreeting).number(nbd::kOptionMagic).number(uint16_t{3});
    say(fd, out);
    std::byte flags[4];
    if (!hear(fd, flags, sizeof flags)) return false;
    for (;;) {
      std::byte header[nbd::kOptionBytes];
      if (!hear(fd, header, sizeof header)) return false;
      const auto option = static_cast<nbd::Option>(nbd::get<uint32_t>(header + 8));
      std::vector<std::byte> data(nbd::get<uint32_t>(header + 12));
      if (!hear(fd, data.data(), data.size())) return false;
      out.clear();
      if (option == nbd::Option::go) {
        reply(out, option, nbd::OptionReply::info, 12);
        Writer(out).number(uint16_t{0}).number(kSize).number(flags_);
      }
      reply(out, option, nbd::OptionReply::ack, 0);
      say(fd, out);
      if (option == nbd::Option::go) return true;
    }
  }

  static void reply(std::vector<std::byte>& out, nbd::Option option, nbd::OptionReply type,
                    uint32_t length) {
    nbd::Writer(out).number(nbd::kOptionReplyMagic).number(static_cast<uint32_t>(option));
    nbd::Writer(out).number(static_cast<uint32_t>(type)).number(length);
  }

  const Serve serve_;
  const uint16_t flags_;
  const std::string folder_;
  Fd listener_;
  std::thread thread_;
  std::vector<std::thread> connections_;
  std::mutex mutex_;  // guards what follows
  std::vector<int> open_;
  std::atomic<int> count_{0};
  std::atomic<bool> ends_{false};
};

}  // namespace ringdisk
