// SPDX-License-Identifier: Apache-2.0
// The engine's record of one request that it has in hand. A transport's own slots are derived from
// it. All of a queue's are made at connect, and nothing is allocated afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/chunk_locks.h"
#include "base/fifo.h"
#include "base/units.h"
#include "io/bounce_share.h"
#include "io/operation.h"
#include "protocol/valid_request.h"

namespace ringdisk {

class RequestEngine;

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
  bool fault = false;     // its data could not be had, or not be given
  bool failing = false;   // its I/O failed, and it has not been answered since
  bool admitted = false;  // it has its tokens, where there are limits, and has not been started
  int32_t result = 0;     // when it is over: 0 or -errno
  ValidRequest valid{};
  BounceShare::Block bounce;
  // The medium's blocks that it writes, where others may rewrite them: order.cc.
  struct Blocks final : ChunkLocks::Hold {
    void granted() override;
    enum class State : uint8_t { none, asked, held } state = State::none;
    RequestEngine* engine = nullptr;
  } blocks;
  // What is read or written on the medium, in bytes: the request's range widened to the medium's
  // alignment.
  uint64_t offset = 0;
  uint64_t length = 0;
  Operation operation{};
  Slot* next = nullptr;  // in whichever SlotList it is
  Slot* in_flight_next = nullptr;
  Slot* in_flight_previous = nullptr;

  // Where in its memory the request's own data lies.
  std::byte* data() const { return bounce.memory.data() + (valid.sector * kSectorBytes - offset); }
};

using SlotList = Fifo<Slot>;

// Slots that somebody is called for together. Holds as many as there are.
class SlotBatch {
 public:
  explicit SlotBatch(uint32_t most) : slots_(std::make_unique<Slot*[]>(most)) {}
  bool empty() const { return count_ == 0; }
  void push(Slot& slot) { slots_[count_++] = &slot; }
  std::span<Slot* const> take() { return {slots_.get(), std::exchange(count_, 0)}; }

 private:
  std::unique_ptr<Slot*[]> slots_;
  uint32_t count_ = 0;
};

// A transport's slots.
template <typename S>
class SlotPool {
 public:
  explicit SlotPool(uint32_t count) : slots_(count) {
    free_.reserve(count);
    for (uint32_t i = count; i-- > 0;) {
      slots_[i].index = static_cast<uint16_t>(i);
      free_.push_back(&slots_[i]);
    }
  }
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;

  S* allocate() {  // nullptr: all in flight
    if (free_.empty()) return nullptr;
    S* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  // Recovery: this one, which a dead process had in hand. Only before the first allocate().
  S& adopt(uint32_t index) {
    S& slot = slots_[index];
    std::erase(free_, &slot);
    return slot;
  }
  void release(S& slot) { free_.push_back(&slot); }
  bool all_free() const { return free_.size() == slots_.size(); }
  uint32_t free_count() const { return static_cast<uint32_t>(free_.size()); }
  S& operator[](uint32_t index) { return slots_[index]; }

 private:
  std::vector<S> slots_;
  std::vector<S*> free_;  // last released first: its memory is still in the cache
};

}  // namespace ringdisk
