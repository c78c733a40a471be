// SPDX-License-Identifier: Apache-2.0
// A view of [begin, begin + length) of an operation's memory as an iovec array the kernel can take:
// the first and last iovec are trimmed in place while the window is open and put back when it is
// closed. Lives in Operation::scratch, so a part never allocates.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace ringdisk {

class IovecWindow {
 public:
  // `length` > 0 and the range lies inside the iovecs. The window must be closed.
  std::span<iovec> open(std::span<iovec> iovecs, uint64_t begin, uint64_t length);
  // Does nothing when the window is not open.
  void close(std::span<iovec> iovecs);

 private:
  iovec first_saved_{};
  uint64_t last_length_saved_ = 0;
  uint32_t first_ = 0;
  uint32_t count_ = 0;  // 0: closed
};

}  // namespace ringdisk
