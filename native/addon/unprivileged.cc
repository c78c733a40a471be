// SPDX-License-Identifier: Apache-2.0
#include "addon/unprivileged.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

namespace ringdisk {
namespace {

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// No library call: libcap is not there to link with everywhere.
void capability_call(long number, CapabilitySets& sets) {
  __user_cap_header_struct header{};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  if (::syscall(number, &header, sets.data()) != 0) fail("cannot read or drop capabilities");
}

bool is_unprivileged() {
  CapabilitySets sets{};
  capability_call(SYS_capget, sets);
  for (const auto& set : sets) {
    if ((set.effective | set.permitted | set.inheritable) != 0) return false;
  }
  return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

// CAP_IPC_LOCK did without the limit; io_uring's registered memory counts.
void lift_memory_lock_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) fail("cannot read the memory lock limit");
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &none) == 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) fail("cannot raise the memory lock limit");
}

// Node marks all it was given to be closed by execve.
void keep_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_SETFD, 0) != 0 && errno != EBADF) fail("cannot keep a standard stream");
  }
}

}  // namespace

void give_up_privileges() {
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
       capability++) {
    // Without CAP_SETPCAP it stays in the bounding set, where no_new_privs keeps it from us.
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EPERM) {
      fail("cannot drop a capability for good");
    }
  }
  CapabilitySets none{};
  capability_call(SYS_capset, none);  // empties the ambient set too
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("cannot give up new privileges");
}

void restart_unprivileged(const std::string& program, const std::vector<std::string>& arguments) {
  if (is_unprivileged()) return;
  lift_memory_lock_limit();
  // The other threads end with execve.
  give_up_privileges();
  keep_standard_streams();
  execute(program, arguments);
}

void execute(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  const std::string what = "cannot start " + program;
  fail(what.c_str());
}

}  // namespace ringdisk
