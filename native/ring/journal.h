// SPDX-License-Identifier: Apache-2.0
// The private copies of a queue's requests, in a file on tmpfs that outlives the process:
// fixed-size records without pointers, found by a free list and never by ring index, since
// responses complete out of order and overwrite ring entries.
//
// State order: FREE -> INFLIGHT (after the copy, before any I/O) -> DONE (response index and status
// set, before the response enters the ring) -> FREE (after rsp_prod was published and `published`
// says so). Each arrow is a release store, so whoever reads a state sees everything before it.
// What a successor may conclude from them is in recover.cc.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "protocol/abi.h"

namespace ringdisk {

// Never 0: a page of zeros must not look like anything.
enum class JournalState : uint32_t { free = 0x52444652, in_flight = 0x52444946, done = 0x5244444f };

struct JournalSlot {
  uint32_t state;
  uint32_t request_index;   // of the ring, modulo 2^32
  uint32_t response_index;  // valid in DONE
  int16_t status;           // valid in DONE
  uint16_t reserved;
  std::byte bytes[wire::kEntryBytesMax];  // the ring entry as the guest wrote it
};
static_assert(sizeof(JournalSlot) == 128, "two cache lines");

// Whose journal it is: a successor must serve the same ring of the same guest.
struct JournalIdentity {
  uint32_t abi = 0;
  uint32_t domid = 0;
  uint32_t remote_port = 0;
  uint32_t ring_pages = 0;
  std::array<uint32_t, kRingPagesMax> ring_refs{};
  bool operator==(const JournalIdentity&) const = default;
};

struct JournalHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t slots;
  JournalIdentity identity;
  uint32_t generation;  // how many processes have served this ring
  // Responses the frontend has been shown; behind the ring's rsp_prod only while publishing.
  alignas(64) uint32_t published;
};

class Journal {
 public:
  // An older daemon's journal can be taken over while this number is the same.
  static constexpr uint32_t kVersion = 1;

  enum class Mode : uint8_t { create, take_over };
  // `path` empty: memory of its own, which dies with the process. Holds the file's lock for as long
  // as it lives. Throws std::system_error (EBUSY: another process serves this queue; ESTALE: the
  // file is not this ring's journal, or of another version; both say which).
  Journal(const std::string& path, Mode mode, uint32_t slots, const JournalIdentity& identity,
          uint32_t published);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // The end of this ring: there is nothing a successor could take over.
  void discard();

  uint32_t slots() const { return header_->slots; }
  // One more process serves this ring.
  void count_process() { header_->generation++; }
  uint32_t generation() const { return header_->generation; }
  uint32_t published() const { return header_->published; }
  void set_published(uint32_t index) {
    std::atomic_ref<uint32_t>(header_->published).store(index, std::memory_order_release);
  }
  JournalSlot& operator[](uint32_t index) { return slots_[index]; }

  static JournalState state(JournalSlot& slot) {
    return static_cast<JournalState>(
        std::atomic_ref<uint32_t>(slot.state).load(std::memory_order_acquire));
  }
  static void set_state(JournalSlot& slot, JournalState state) {
    std::atomic_ref<uint32_t>(slot.state)
        .store(static_cast<uint32_t>(state), std::memory_order_release);
  }

 private:
  void open_file(Mode mode);
  void allocate();
  void map();
  void initialise(uint32_t slots, const JournalIdentity& identity, uint32_t published);
  void check(uint32_t slots, const JournalIdentity& identity) const;

  const std::string path_;
  Fd fd_;
  size_t bytes_ = 0;
  JournalHeader* header_ = nullptr;
  JournalSlot* slots_ = nullptr;
};

}  // namespace ringdisk
