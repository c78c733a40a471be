// SPDX-License-Identifier: Apache-2.0
#include "worker/sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ringdisk {
namespace {

constexpr std::array kAllowed = {
    // the medium
    SYS_openat, SYS_open, SYS_close, SYS_pread64, SYS_pwrite64, SYS_preadv2, SYS_fdatasync,
    SYS_fsync, SYS_ftruncate, SYS_fallocate, SYS_ioctl, SYS_flock, SYS_stat, SYS_fstat,
    SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_readlink, SYS_readlinkat, SYS_lseek,
    SYS_uname, SYS_fcntl,
    // the daemon
    SYS_recvmsg, SYS_sendmsg, SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_poll,
    // memory and threads
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, SYS_clone,
    SYS_clone3, SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_sched_getaffinity, SYS_gettid,
    SYS_getpid, SYS_getppid, SYS_exit, SYS_exit_group, SYS_prctl, SYS_prlimit64, SYS_getrandom,
    // time and signals
    SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_restart_syscall, SYS_tgkill};

constexpr std::array kOfSockets = {SYS_connect,    SYS_sendto,     SYS_recvfrom,
                                   SYS_getsockopt, SYS_setsockopt, SYS_socketpair};
constexpr std::array kFamilies = {AF_UNIX, AF_NETLINK};

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

}  // namespace

// Jumps are counted from the end, so that each list may have any length.
void confine_worker(bool reaches_servers) {
  if (kSanitized) return;
  std::vector<long> allowed(kAllowed.begin(), kAllowed.end());
  if (reaches_servers) allowed.insert(allowed.end(), kOfSockets.begin(), kOfSockets.end());
  std::vector<sock_filter> program;
  const auto add = [&program](uint16_t code, uint32_t value, uint8_t yes, uint8_t no) {
    program.push_back({code, yes, no, value});
  };
  constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch), 0, 0);
  add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr), 0, 0);
  const size_t families = reaches_servers ? kFamilies.size() + 2 : 0;  // entries that look at them
  for (size_t i = 0; i < allowed.size(); i++) {
    const auto to_allow = static_cast<uint8_t>(allowed.size() - i + families);
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(allowed[i]), to_allow, 0);
  }
  if (reaches_servers) {
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, static_cast<uint8_t>(families - 1));
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0]), 0, 0);
    for (size_t i = 0; i < kFamilies.size(); i++)
      add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kFamilies[i]),
          static_cast<uint8_t>(kFamilies.size() - i), 0);
  }
  add(BPF_RET | BPF_K, kRefuse, 0, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

}  // namespace ringdisk
