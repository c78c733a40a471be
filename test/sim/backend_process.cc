// SPDX-License-Identifier: Apache-2.0
#include "backend_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <system_error>

extern char** environ;

namespace ringdisk::sim {
namespace {

struct Pipe {
  Fd read_end, write_end;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

}  // namespace

BackendProcess::BackendProcess(const std::vector<std::string>& command,
                               const KillPoint& kill_point) {
  Pipe input = make_pipe();
  Pipe output = make_pipe();
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::string name = "RINGDISK_KILL_POINT=" + kill_point.name;
  std::string count = "RINGDISK_KILL_COUNT=" + std::to_string(kill_point.count);
  std::vector<char*> environment;
  for (char** one = environ; *one; one++) environment.push_back(*one);
  environment.insert(environment.end(), {name.data(), count.data(), nullptr});

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.read_end.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output.write_end.get(), STDOUT_FILENO);
  const int error =
      ::posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), command[0]);
  input_ = std::move(input.write_end);
  output_ = std::move(output.read_end);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
}

BackendProcess::~BackendProcess() {
  if (pid_ < 0) return;
  kill();
  reap();
}

bool BackendProcess::listen() {
  char text[256];
  for (;;) {
    const ssize_t got = ::read(output_.get(), text, sizeof text);
    if (got < 0) return true;
    if (got == 0) {
      reap();
      return false;
    }
    for (const char byte : std::string_view(text, static_cast<size_t>(got))) {
      if (complaining_)
        complaint_ += byte;
      else if (byte == 'C')
        connected_ = true;
      else if (byte == 'D')
        disconnected_ = true;
      else
        complaining_ = true;
    }
  }
}

void BackendProcess::disconnect() {
  [[maybe_unused]] const ssize_t written = ::write(input_.get(), "D", 1);
}

void BackendProcess::kill() { ::kill(pid_, SIGKILL); }

void BackendProcess::reap() {
  ::waitpid(pid_, &status_, 0);
  pid_ = -1;
  was_killed_ = WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL;
}

bool BackendProcess::died_as_expected() {
  if (was_killed_) return true;
  return disconnected_ && WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
}

}  // namespace ringdisk::sim
