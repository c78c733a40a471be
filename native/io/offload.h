// SPDX-License-Identifier: Apache-2.0
// One helper thread for the few system calls that block and have no io_uring form (BLKDISCARD
// before kernel 6.12, BLKSECDISCARD): the reactor itself never makes them. Results come back to the
// reactor as part results, through collect(), after its mailbox has been woken.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <functional>
#include <mutex>

#include "io/operation.h"

namespace ringdisk {

// submit() and collect() belong to the reactor's thread.
class Offload {
 public:
  // Blocking work for one part; returns bytes done or 0, or -errno. Runs on the helper thread and
  // may read the operation, which does not change meanwhile.
  using Work = int32_t (*)(const Operation& operation, int fd);

  // `wake` is called when a result is ready to collect, usually on the helper thread.
  explicit Offload(std::function<void()> wake);
  // Every operation must have been collected.
  ~Offload();
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;

  // Any number may wait; each operation is in at most one place, so the list is bounded by slots.
  // Uses operation.scratch. The thread starts with the first call.
  void submit(Operation& operation, Work work, int fd);
  // Finished parts since the last call, linked by next, part_result set.
  Operation* collect();

 private:
  // First in, first out, linked by Operation::next.
  struct List {
    Operation* head = nullptr;
    Operation** tail = &head;
    void push(Operation& operation);
    Operation* pop();
    Operation* take_all();
  };

  bool start_thread();
  static void* entry(void* self);
  void run();

  const std::function<void()> wake_;
  bool started_ = false;
  pthread_t thread_{};

  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  List waiting_;
  List finished_;
  bool stopping_ = false;
};

}  // namespace ringdisk
