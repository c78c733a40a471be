// SPDX-License-Identifier: Apache-2.0
#include "addon/helper_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "addon/landlock.h"
#include "addon/unprivileged.h"
#include "base/fd.h"

namespace ringdisk {
namespace {

// Of the process that begins to be a helper; -1: this one does not.
int lock_fd = -1;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void log_to(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("cannot remove " + path);
  if (::mkfifo(path.c_str(), 0600) != 0) fail("cannot make " + path);
  Fd log = Fd::checked(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW),
                       "cannot open " + path);
  if (::dup2(log.get(), STDERR_FILENO) < 0) fail("cannot log to " + path);
}

// What every program needs, and what QEMU and nbdkit read.
std::vector<std::string> system_files(bool network) {
  std::vector<std::string> files{"/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/sys"};
  if (network) files.emplace_back("/run/systemd/resolve");
  return files;
}

void confine(const HelperProgram& helper) {
  Allowance allowance;
  allowance.readable = system_files(helper.network);
  allowance.readable.push_back(helper.program);
  allowance.readable.insert(allowance.readable.end(), helper.readable.begin(),
                            helper.readable.end());
  allowance.writable = helper.writable;
  for (const char* device : {"/dev/null", "/dev/urandom"}) allowance.writable.emplace_back(device);
  allowance.folders.push_back(helper.folder);
  allowance.network = helper.network;
  confine_to(allowance);
}

void keep_only_standard_streams_and_lock() {
  Fd nothing = Fd::checked(::open("/dev/null", O_RDONLY | O_CLOEXEC), "cannot open /dev/null");
  if (::dup2(nothing.get(), STDIN_FILENO) < 0) fail("cannot let go of standard input");
  if (::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) fail("cannot let go of standard output");
  if (::fcntl(STDERR_FILENO, F_SETFD, 0) != 0) fail("cannot keep the log");
  if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
    fail("cannot let go of open files");
  if (lock_fd >= 0 && ::fcntl(lock_fd, F_SETFD, 0) != 0) fail("cannot keep the lock");
}

}  // namespace

bool begin_helper(const std::string& log, const std::string& lock) {
  Fd file = Fd::checked(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600),
                        "cannot open the lock file " + lock);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    fail("cannot lock " + lock);
  }
  lock_fd = file.release();
  log_to(log);
  return true;
}

void become_helper(const HelperProgram& helper) {
  const rlimit no_core{0, 0};
  if (::setrlimit(RLIMIT_CORE, &no_core) != 0) fail("cannot forbid a core");
  give_up_privileges();
  confine(helper);
  keep_only_standard_streams_and_lock();
  execute(helper.program, helper.arguments);
}

}  // namespace ringdisk
