// SPDX-License-Identifier: Apache-2.0
// NBD servers that others wrote, started for a test and ended with it.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "eventually.h"

extern char** environ;

namespace ringdisk {

// Whether somebody listens there.
inline bool listens(const std::string& path) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> command) : command_(std::move(command)) {
    start();
  }
  ~ServerProcess() { end(SIGKILL); }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  void start() {
    std::vector<char*> arguments;
    for (std::string& word : command_) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    const int error =
        ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    REQUIRE(error == 0);
  }
  // As another command from now on.
  void start_as(std::vector<std::string> command) {
    command_ = std::move(command);
    start();
  }
  void end(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  void send(int signal) const { ::kill(pid_, signal); }

 private:
  std::vector<std::string> command_;
  pid_t pid_ = 0;
};

inline bool has_program(const std::string& name) {
  const bool has =
      std::filesystem::exists("/usr/bin/" + name) || std::filesystem::exists("/usr/sbin/" + name);
  if (!has) MESSAGE("skipped: there is no ", name);
  return has;
}

// A server at a socket in a folder of its own.
class NbdServerProcess {
 public:
  // `make` is given the socket's path.
  template <typename Make>
  explicit NbdServerProcess(Make make) : folder_(make_folder()), server_(make(socket())) {
    await();
  }
  ~NbdServerProcess() {
    server_.end(SIGKILL);
    std::filesystem::remove_all(folder_);
  }

  std::string socket() const { return folder_ + "/nbd.sock"; }
  void end(int signal) {
    server_.end(signal);
    std::filesystem::remove(socket());
  }
  void start() {
    server_.start();
    await();
  }
  void start_as(std::vector<std::string> command) {
    server_.start_as(std::move(command));
    await();
  }
  ServerProcess& process() { return server_; }

 private:
  static std::string make_folder() {
    std::string folder = std::filesystem::temp_directory_path().string() + "/rd-nbd-XXXXXX";
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    return folder;
  }
  void await() const {
    REQUIRE(eventually([this] { return listens(socket()); }));
  }

  std::string folder_;
  ServerProcess server_;
};

}  // namespace ringdisk
