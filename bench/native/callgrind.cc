// SPDX-License-Identifier: Apache-2.0
// Lets the data path be counted by callgrind. A thread that sleeps in io_uring_enter keeps
// valgrind's one lock (3.19 does not know that this call may block), so that nobody else runs on,
// not even who would wake it. In this program alone, and only when asked to, a reactor sleeps
// elsewhere and looks into its ring now and then. The linker (--wrap) puts this file in between.
//
// Valgrind's threads take turns as it likes, and a frontend that asks again before the reactor
// sleeps spares it a wake-up. So that the same is counted every time, the two hand over here: the
// frontend goes on when the reactor sleeps, and the reactor when the frontend does.
#include "callgrind.h"

#include <liburing.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace ringdisk::bench {
namespace {

using Clock = std::chrono::steady_clock;

bool taking_turns = false;
std::atomic<bool> reactor_sleeps{false};
std::atomic<bool> frontend_works{false};

void nap() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

}  // namespace

void take_turns() { taking_turns = true; }
void end_turns() { frontend_works = false; }

}  // namespace ringdisk::bench

using namespace ringdisk::bench;

extern "C" {

// Not ringdisk's cost: has a name and is not inlined, so that callgrind can leave it out.
[[gnu::noinline]] void ringdisk_bench_sleep(io_uring* ring, const __kernel_timespec* timeout) {
  Clock::time_point deadline = Clock::time_point::max();
  if (timeout != nullptr)
    deadline = Clock::now() + std::chrono::seconds(timeout->tv_sec) +
               std::chrono::nanoseconds(timeout->tv_nsec);
  reactor_sleeps = true;
  while (frontend_works || (io_uring_cq_ready(ring) == 0 && Clock::now() < deadline)) {
    nap();
    io_uring_get_events(ring);  // completions may be this thread's own work (DEFER_TASKRUN)
  }
  reactor_sleeps = false;
}

// The linker's names for --wrap. NOLINTBEGIN(bugprone-reserved-identifier)
int __real_io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** first, unsigned wanted,
                                            __kernel_timespec* timeout, sigset_t* signals);

int __wrap_io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** first, unsigned wanted,
                                            __kernel_timespec* timeout, sigset_t* signals) {
  if (!taking_turns)
    return __real_io_uring_submit_and_wait_timeout(ring, first, wanted, timeout, signals);
  // All of the call but its waiting, and this is counted.
  __kernel_timespec at_once{};
  const int rc = __real_io_uring_submit_and_wait_timeout(ring, first, wanted, &at_once, signals);
  ringdisk_bench_sleep(ring, timeout);
  return rc;
}

int __real_poll(pollfd* fds, nfds_t count, int timeout_ms);

// A frontend's wait for answers.
int __wrap_poll(pollfd* fds, nfds_t count, int timeout_ms) {
  frontend_works = false;
  const int ready = __real_poll(fds, count, timeout_ms);
  if (!taking_turns || ready <= 0) return ready;
  while (!reactor_sleeps) nap();
  frontend_works = true;
  return ready;
}
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"
