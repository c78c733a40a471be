// SPDX-License-Identifier: Apache-2.0
// One helper thread for the few system calls that block and have no io_uring form (BLKDISCARD before
// kernel 6.12, BLKSECDISCARD): the reactor itself never makes them. Results come back to the reactor
// as part results, through collect(), after its mailbox has been woken.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <functional>
#include <mutex>

#include "io/operation.h"

namespace ringdisk {

class Offload {
 public:
  // Blocking work for one part; returns bytes done or 0, or -errno. Runs on the helper thread and may
  // read the operation, which does not change meanwhile.
  using Work = int32_t (*)(const Operation& operation, int fd);

  // `wake` is called on the helper thread when a result is ready to collect.
  explicit Offload(std::function<void()> wake);
  ~Offload();  // waits for the work under way
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;

  // Any number may wait; each operation is in at most one place, so the list is bounded by slots.
  void submit(Operation& operation, Work work, int fd);
  // Finished parts since the last call, linked by next, part_result set.
  Operation* collect();

 private:
  struct Job;
  void run();
  static void* entry(void* self);
  // Implementation detail lists live in the .cc: see offload.cc.
  struct State;
  State* state_;
};

}  // namespace ringdisk
