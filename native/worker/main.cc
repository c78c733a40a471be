// SPDX-License-Identifier: Apache-2.0
// A worker: the process that may wait for one medium, so that the daemon never does. The daemon
// starts it with its socket and a page of shared memory; it ends after the daemon, or when the
// daemon closes the socket. A call that the kernel does not let go of keeps it alive until it is
// over, and with it the open file: that is what a successor's claim waits for.
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "worker/sandbox.h"
#include "worker/server.h"
#include "worker/start.h"

namespace {

// Until its last thread is gone, and with it whatever it had open.
void wait_for_end(int process) {
  pollfd end{process, POLLIN, 0};
  while (::poll(&end, 1, -1) < 0 && errno == EINTR) continue;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ringdisk;
  // The end of the socket tells of the daemon's; one that somebody has stopped must hear of it,
  // too. Not SIGKILL: it would come while the daemon still has the medium open.
  ::prctl(PR_SET_PDEATHSIG, SIGCONT);
  const int daemon = static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0));
  if (argc < 2 || std::atoi(argv[1]) != ::getppid()) {
    std::fputs("ringdisk-worker is started by ringdisk, and by nobody else\n", stderr);
    return 2;
  }
  ::prctl(PR_SET_NAME, "rd-worker");
  ::close(kWorkerProgramFd);
  // These are the daemon's to answer; a terminal sends them to both.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // a write beyond a limit is an error as any other
  void* page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, kWorkerPageFd, 0);
  if (page == MAP_FAILED) return 1;
  confine_worker(argc > 2 && std::strcmp(argv[2], "nbd") == 0);
  // Never destroyed: threads that come out of a call find it as it was, and its medium stays open.
  Server& server = *new Server(kWorkerSocketFd, *static_cast<WorkerPage*>(page));
  const bool daemon_ends = server.run();
  // Whoever closes a medium last may have to wait for it, and a daemon that waits cannot die.
  if (daemon_ends && daemon >= 0) wait_for_end(daemon);
  // Threads may be in a call.
  ::_exit(0);
}
