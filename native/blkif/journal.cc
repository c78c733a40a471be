// SPDX-License-Identifier: Apache-2.0
#include "blkif/journal.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

namespace ringdisk {

Journal::Journal(uint32_t slots) : bytes_(slots * sizeof(JournalSlot)) {
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a queue's journal");
  slots_ = static_cast<JournalSlot*>(memory);
}

Journal::~Journal() { ::munmap(slots_, bytes_); }

}  // namespace ringdisk
