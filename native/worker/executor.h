// SPDX-License-Identifier: Apache-2.0
// The worker's threads: they take calls from all lanes and carry them out, each as long as the
// medium takes. Another thread takes over what one that waits can't do, up to kWorkerThreadsMax;
// one that has found nothing to do for a while ends.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/fd.h"
#include "medium/medium.h"
#include "worker/lane_layout.h"

namespace ringdisk {

class Executor {
 public:
  // Both live as long as the process does.
  Executor(const Medium& medium, WorkerPage& page) : medium_(medium), page_(page) {}

  // `memory` is a lane's, `bell` the eventfd of its reactor. Throws std::system_error.
  void add_lane(uint32_t id, const Fd& memory, Fd bell);
  // Its calls must be over.
  void remove_lane(uint32_t id);

 private:
  static constexpr uint32_t kShortUs = 10;
  struct Lane {
    uint32_t id = 0;
    LaneHeader* header = nullptr;
    Fd bell;
    uint32_t taken = 0;
    ~Lane();
  };
  struct Call {
    std::shared_ptr<Lane> lane;
    LaneSubmission submission{};
  };
  // What one thread takes at a time: several calls of one lane where they are short.
  struct Batch {
    static constexpr uint32_t kCallsMax = 8;
    std::shared_ptr<Lane> lane;
    uint32_t count = 0;
    LaneSubmission submissions[kCallsMax];
    int32_t results[kCallsMax];
  };

  static void* entry(void* self);
  bool start_thread();
  void run(uint32_t thread);
  bool take(Batch& batch);
  bool look_out(Batch& batch);
  bool anything_waits() const;
  bool wait_for_bell(uint32_t heard, bool is_spare);
  void wake_another();
  void carry_out(Batch& batch, uint32_t thread);
  void flush(const Call& call, uint32_t thread);
  int32_t run_call(const LaneSubmission& submission, std::byte* memory, uint32_t thread);
  void note_duration(uint64_t us);
  void complete(const Batch& batch);

  const Medium& medium_;
  WorkerPage& page_;
  const bool may_look_out_ = ::sysconf(_SC_NPROCESSORS_ONLN) > 1;
  std::atomic<bool> looking_out_{false};  // guards the next two
  int luck_ = 0;
  uint32_t unlucky_ = 0;
  std::atomic<uint32_t> usual_us_{kShortUs * 8};  // how long a read or write takes, times 8
  std::mutex mutex_;  // guards everything below, and the consumer's side of every lane
  std::vector<std::shared_ptr<Lane>> lanes_;
  size_t next_lane_ = 0;
  uint32_t threads_ = 0;
  bool used_[kWorkerThreadsMax] = {};  // places in the page
  bool flushing_ = false;
  std::vector<Call> flushes_;  // wait for the next flush of the device, all for the same one
};

}  // namespace ringdisk
