// SPDX-License-Identifier: Apache-2.0
// Our record of one in-flight request. The journal's record beside it holds the guest's bytes and
// the states that count for recovery; this one holds what only this process needs. All of a queue's
// slots are made at connect, and nothing is allocated afterwards.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "io/bounce_share.h"
#include "io/operation.h"
#include "protocol/request.h"
#include "ring/journal.h"

namespace ringdisk {

struct Slot {
  enum class Stage : uint8_t {
    read,            // read under way
    write,           // write or discard under way
    old_data,        // read-modify-write: reading what the write only partly covers
    flush,           // flush under way
    barrier_before,  // barrier: flush of everything earlier
    barrier_write,
    barrier_after,  // barrier: flush of its own data
  };

  uint16_t index = 0;
  Stage stage = Stage::read;
  bool fault = false;    // one of its grants could not be reached
  bool failing = false;  // its I/O failed, and it has not been answered since
  uint64_t seen_ns = 0;  // when it was first seen in the ring; 0: its latency is not counted
  Request request;
  ValidRequest valid{};
  std::span<Segment> segments;
  BounceShare::Block bounce;
  // What is read or written on the medium, in bytes: the request's range widened to the medium's
  // alignment.
  uint64_t offset = 0;
  uint64_t length = 0;
  Operation operation{};
  Slot* next = nullptr;  // in whichever SlotList it is
  Slot* in_flight_next = nullptr;
  Slot* in_flight_previous = nullptr;
};

// First in, first out; intrusive, so that moving a slot costs two pointers.
class SlotList {
 public:
  bool empty() const { return head_ == nullptr; }
  Slot* front() const { return head_; }
  void push(Slot& slot) {
    slot.next = nullptr;
    (head_ ? tail_->next : head_) = &slot;
    tail_ = &slot;
  }
  Slot* pop() {
    Slot* slot = head_;
    if (slot) head_ = slot->next;
    return slot;
  }
  // Takes all, leaving this list empty.
  SlotList take() {
    const SlotList all = *this;
    head_ = nullptr;
    return all;
  }

 private:
  Slot* head_ = nullptr;
  Slot* tail_ = nullptr;
};

// A queue's slots, with room for indirect requests that costs nothing until it is used.
class SlotPool {
 public:
  explicit SlotPool(Journal& journal);  // throws std::system_error
  ~SlotPool();
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;

  Slot* allocate();  // nullptr: all in flight
  // Recovery: this one, whose record is not FREE. Only before the first allocate().
  Slot& adopt(uint32_t index);
  void release(Slot& slot) { free_.push_back(&slot); }
  bool all_free() const { return free_.size() == slots_.size(); }
  uint32_t free_count() const { return static_cast<uint32_t>(free_.size()); }

  Slot& operator[](uint32_t index) { return slots_[index]; }
  JournalSlot& journal(const Slot& slot) { return journal_[slot.index]; }

  // Memory for `count` segments of `slot`: its own for direct requests, else from the arena.
  std::span<Segment> segments(Slot& slot, uint32_t count);

 private:
  using IndirectSegments = std::array<Segment, kIndirectSegmentsMax>;

  std::vector<Slot> slots_;
  std::vector<Slot*> free_;  // last released first: its memory is still in the cache
  Journal& journal_;
  IndirectSegments* arena_ = nullptr;  // one per slot; pages appear when first written
};

}  // namespace ringdisk
