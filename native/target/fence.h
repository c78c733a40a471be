// SPDX-License-Identifier: Apache-2.0
// Keeps two writers off one medium, even when one of them is dead. A killed process leaves I/O
// behind that the kernel still carries out; a write of it that lands after a newer one destroys
// data. The lock is on the open file through which the I/O was sent, and each request in flight
// holds a reference to that open file: so the lock is free exactly when the last of them is over.
#pragma once

#include <atomic>
#include <string>

namespace ringdisk {

class Fence {
 public:
  // Locks `fd`'s open file, which outlives this: shared for reading, else exclusively. With
  // `take_over`, a lock that another process still holds makes the fence pending; without, it is
  // waited for some seconds (the last user may be closing) and then std::system_error(EBUSY) says
  // who to look for.
  Fence(int fd, const std::string& path, bool read_only, bool take_over);

  // Whether the predecessor's I/O may still be under way: nothing may be written. Any thread.
  bool pending() const { return pending_.load(std::memory_order_acquire); }
  // Blocks until it is over; for as long as the device takes.
  void wait();

 private:
  int fd_;
  std::string path_;
  int operation_;
  std::atomic<bool> pending_{false};
};

}  // namespace ringdisk
