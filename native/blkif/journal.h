// SPDX-License-Identifier: Apache-2.0
// The private copies of a queue's requests, in the shape that can outlive the process: fixed-size
// records without pointers, found by a free list and never by ring index, since responses complete
// out of order and overwrite ring entries (DESIGN decision 4).
//
// State order: FREE -> INFLIGHT (after the copy, before any I/O) -> DONE (response index and status
// set, before the response enters the ring) -> FREE (after rsp_prod was published). Each arrow is a
// release store, so whoever reads a state sees everything that came before it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "blkif/abi.h"

namespace ringdisk {

enum class JournalState : uint32_t { free = 0, in_flight = 0x52444946, done = 0x5244444f };

struct JournalSlot {
  uint32_t state;
  uint32_t request_index;   // of the ring, modulo 2^32
  uint32_t response_index;  // valid in DONE
  int16_t status;           // valid in DONE
  uint16_t reserved;
  std::byte bytes[wire::kEntryBytesMax];  // the ring entry as the guest wrote it
};
static_assert(sizeof(JournalSlot) == 128, "two cache lines");

// Owns the records of one queue: shared memory of its own, zeroed.
class Journal {
 public:
  explicit Journal(uint32_t slots);  // throws std::system_error
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  JournalSlot& operator[](uint32_t index) { return slots_[index]; }

  static void set_state(JournalSlot& slot, JournalState state) {
    std::atomic_ref<uint32_t>(slot.state)
        .store(static_cast<uint32_t>(state), std::memory_order_release);
  }

 private:
  JournalSlot* slots_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ringdisk
