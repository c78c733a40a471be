// SPDX-License-Identifier: Apache-2.0
#include "addon/crash_note.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace ringdisk {
namespace {

constexpr std::array kCrashes = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};

std::string note_path;
struct sigaction before[NSIG];

// Only what may be called in a signal handler. Returning repeats what crashed, without us.
void on_crash(int signal) {
  const int error = errno;
  const int fd = ::open(note_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0) ::close(fd);
  ::sigaction(signal, &before[signal], nullptr);
  errno = error;
}

}  // namespace

void note_crashes(const std::string& path) {
  note_path = path;
  struct sigaction action = {};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK;
  for (const int signal : kCrashes)
    if (::sigaction(signal, &action, &before[signal]) != 0)
      throw std::system_error(errno, std::generic_category(), "cannot watch for crashes");
}

}  // namespace ringdisk
