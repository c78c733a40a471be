// SPDX-License-Identifier: Apache-2.0
#include "target/iovec_window.h"

#include <cstddef>

#include "base/assert.h"

namespace ringdisk {

std::span<iovec> IovecWindow::open(std::span<iovec> iovecs, uint64_t begin, uint64_t length) {
  RD_ASSERT(count_ == 0 && length > 0);
  size_t first = 0;
  while (begin >= iovecs[first].iov_len) begin -= iovecs[first++].iov_len;
  size_t last = first;
  uint64_t end = begin + length;  // counted from the start of `last`
  while (end > iovecs[last].iov_len) end -= iovecs[last++].iov_len;
  RD_ASSERT(last < iovecs.size());

  first_saved_ = iovecs[first];
  last_length_saved_ = iovecs[last].iov_len;
  first_ = static_cast<uint32_t>(first);
  count_ = static_cast<uint32_t>(last - first + 1);
  iovecs[last].iov_len = end;
  iovecs[first].iov_base = static_cast<std::byte*>(iovecs[first].iov_base) + begin;
  iovecs[first].iov_len -= begin;
  return iovecs.subspan(first, count_);
}

void IovecWindow::close(std::span<iovec> iovecs) {
  if (count_ == 0) return;
  iovecs[first_ + count_ - 1].iov_len = last_length_saved_;
  iovecs[first_] = first_saved_;
  count_ = 0;
}

}  // namespace ringdisk
