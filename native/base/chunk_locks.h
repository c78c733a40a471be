// SPDX-License-Identifier: Apache-2.0
// Exclusion by chunks over the queues of a medium: what writes behind the guest's back, or rewrites
// more than it says, holds chunks, and whoever would meet it there waits for its turn without
// holding up its reactor. First come,
// first served: a hold waits for all that overlap it and came before. Nothing is allocated, the
// holds are their owners'; so there are no more than these have operations in flight.
//
// It takes a lock, for as long as a list is walked: it is for paths that do not cost each request
// of most disks something, such as the first touch of a chunk.
#pragma once

#include <cstdint>
#include <mutex>

namespace ringdisk {

class ChunkLocks {
 public:
  class Hold {
   public:
    virtual ~Hold() = default;
    // It is this one's turn. On the thread of whoever released what was in its way, which holds
    // nothing then: hand it on to your own.
    virtual void granted() = 0;

    uint64_t first = 0;  // chunks
    uint64_t end = 0;
    bool shared = false;  // with others that are shared

   private:
    friend class ChunkLocks;
    bool meets(const Hold& other) const {
      return first < other.end && other.first < end && !(shared && other.shared);
    }
    bool held_ = false;
    Hold* next_ = nullptr;
    Hold* previous_ = nullptr;
    Hold* next_granted_ = nullptr;
  };

  ChunkLocks() = default;
  ~ChunkLocks();  // none may be left
  ChunkLocks(const ChunkLocks&) = delete;
  ChunkLocks& operator=(const ChunkLocks&) = delete;

  // Any thread, as release(). True: it is held from now on. False: granted() follows.
  bool acquire(Hold& hold);
  void release(Hold& hold);

 private:
  bool must_wait(const Hold& hold) const;

  std::mutex mutex_;
  Hold* oldest_ = nullptr;
  Hold* newest_ = nullptr;
};

}  // namespace ringdisk
