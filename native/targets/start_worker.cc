// SPDX-License-Identifier: Apache-2.0
// How a worker's process begins.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "targets/workers.h"
#include "worker/start.h"

extern char** environ;

namespace ringdisk {
namespace {

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;  // its reports go there
#else
    false;
#endif

// What a child is to find under which number, and nothing else.
class ChildFiles {
 public:
  ChildFiles(int socket, int page, int program) {
    ::posix_spawn_file_actions_init(&actions_);
    // Out of the way first: each may have the number that another is to get.
    const int safe = std::max({socket, page, program, kWorkerProgramFd}) + 1;
    const int from[] = {socket, page, program};
    const int to[] = {kWorkerSocketFd, kWorkerPageFd, kWorkerProgramFd};
    for (int i = 0; i < 3; i++) ::posix_spawn_file_actions_adddup2(&actions_, from[i], safe + i);
    for (int i = 0; i < 3; i++) ::posix_spawn_file_actions_adddup2(&actions_, safe + i, to[i]);
    // Who reads the daemon's output waits for its end, not for a worker's.
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (!kSanitized)
      ::posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, kWorkerProgramFd + 1);
  }
  ~ChildFiles() { ::posix_spawn_file_actions_destroy(&actions_); }
  ChildFiles(const ChildFiles&) = delete;
  ChildFiles& operator=(const ChildFiles&) = delete;

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

}  // namespace

// The file that was there first, whatever lies under its name by now: after an installation that is
// another build's, which speaks otherwise, and this daemon serves on until it is upgraded.
int Workers::program_file() {
  if (!program_file_.valid())
    program_file_ =
        Fd::checked(::open(program_.c_str(), O_PATH | O_CLOEXEC), "cannot start " + program_);
  return program_file_.get();
}

void Workers::start(Record& record) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a worker's socket");
  record.socket = Fd(ends[0]);
  const Fd theirs(ends[1]);
  // Only this end: a worker may wait for us, but we never for it.
  ::fcntl(record.socket.get(), F_SETFL, O_NONBLOCK);
  const std::string parent = std::to_string(::getpid());
  const char* arguments[] = {"ringdisk-worker", parent.c_str(), record.spec.kind.c_str(),
                             record.spec.path.c_str(), nullptr};
  const ChildFiles files(theirs.get(), record.link->page_memory_.get(), program_file());
  const std::string program = "/proc/self/fd/" + std::to_string(kWorkerProgramFd);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const int error = ::posix_spawn(&record.pid, program.c_str(), files.get(), &attributes,
                                  const_cast<char* const*>(arguments), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    record.pid = 0;
    throw std::system_error(error, std::generic_category(), "cannot start " + program_);
  }
  record.generation++;
  record.link->process_ = record.pid;
  try {
    record.ended = Fd::checked(static_cast<int>(::syscall(SYS_pidfd_open, record.pid, 0)),
                               "cannot watch a worker");
    watch(record.socket.get(), reinterpret_cast<uint64_t>(&record));
    watch(record.ended.get(), reinterpret_cast<uint64_t>(&record) | kEndedBit);
  } catch (const std::system_error&) {
    // Nobody would hear of its end. It has touched no medium yet, so that is now.
    end_process(record);
    ::waitpid(record.pid, nullptr, 0);
    record.pid = 0;
    record.link->process_ = 0;
    unwatch(record.socket);
    unwatch(record.ended);
    throw;
  }
}

}  // namespace ringdisk
