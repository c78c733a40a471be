// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ringdisk {

class Queue;

// What a queue reports to the control plane. Called on reactor threads; each is rare by
// construction: a ring breaks once and is recovered once, and between two reports that I/O fails
// all of it went through.
class QueueEvents {
 public:
  virtual ~QueueEvents() = default;
  virtual void ring_broken(uint32_t vbd, uint32_t queue, const char* reason) = 0;
  // All that a dead process left in this queue is answered, and the ring has been looked at.
  virtual void queue_recovered(uint32_t vbd, uint32_t queue) = 0;
  // Requests failed, wait and are tried again; `error` is the first one's errno.
  virtual void io_failing(uint32_t vbd, uint32_t queue, int error) = 0;
  virtual void io_recovered(uint32_t vbd, uint32_t queue) = 0;
  // Everything is let go: the reactor forgot the queue, and it may be deleted. `drained`: every
  // request taken was answered, so another connect can go on where this one stopped.
  virtual void queue_closed(uint32_t vbd, uint32_t queue, bool drained) = 0;
};

}  // namespace ringdisk
