// SPDX-License-Identifier: Apache-2.0
#include "worker/sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
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

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

}  // namespace

void confine_worker() {
  if (kSanitized) return;
  std::vector<sock_filter> program;
  const auto add = [&program](uint16_t code, uint32_t value, uint8_t yes, uint8_t no) {
    program.push_back({code, yes, no, value});
  };
  constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch), 0, 0);
  add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr), 0, 0);
  for (size_t i = 0; i < kAllowed.size(); i++) {
    const auto to_allow = static_cast<uint8_t>(kAllowed.size() - i);
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kAllowed[i]), to_allow, 0);
  }
  add(BPF_RET | BPF_K, kRefuse, 0, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

}  // namespace ringdisk
