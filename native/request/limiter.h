// SPDX-License-Identifier: Apache-2.0
// Where a queue's requests wait for tokens: behind the transport, before anything is begun and
// before they have memory. Only a queue that is limited has one.
//
// Reads and writes wait beside each other, each kind in order. Only the first of each has taken its
// tokens, so that all queues of a disk, and all disks of a group, take turns whatever their depth.
// A barrier holds back what came after it, as ever; a flush never waits.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/alarms.h"
#include "metrics/counters.h"
#include "request/limits.h"
#include "request/slot.h"

namespace ringdisk {

class Limiter final : private Alarm {
 public:
  Limiter(std::shared_ptr<Limits> limits, uint32_t depth, Alarms& alarms, QueueCounters& counters);
  ~Limiter() override;
  Limiter(const Limiter&) = delete;
  Limiter& operator=(const Limiter&) = delete;

  // Takes out of `waiting` what has no tokens yet and puts in what has. An alarm tells when more
  // may go.
  void pass(SlotList& waiting, uint64_t now_ns);
  // Whether it has to look again before anybody sleeps: its alarm has rung, or rates are others.
  bool is_due() const { return count_ > 0 && alarm_us_ == kNever; }
  // Rates are others now: who waits takes its tokens anew.
  void forget() {
    first_ = {};
    set_alarm();
  }
  // All that wait, in an order in which they may be carried out; none is left.
  SlotList take_all(SlotList& waiting);
  bool empty() const { return count_ == 0; }

 private:
  enum Class : uint8_t { reads, writes };
  // It waits for its disk's turn first, then for its tokens.
  struct First {
    enum class Has : uint8_t { nothing, turn, tokens } has = Has::nothing;
    uint64_t may_go_ns = 0;
  };

  void take_in(SlotList& waiting);
  void sort(Slot& slot, SlotList& waiting);
  void release(SlotList& waiting);
  void release(Class which, SlotList& waiting);
  bool may_go(const Slot& slot);
  void count(uint32_t waiting);
  void admit(Slot& slot, SlotList& waiting);
  void set_alarm();
  void on_alarm(uint64_t) override { alarm_us_ = kNever; }
  static Class class_of(const Slot& slot) {
    return Limits::is_write(slot.valid.kind) ? writes : reads;
  }

  const std::shared_ptr<Limits> limits_;
  Alarms& alarms_;
  QueueCounters& counters_;
  SlotList waiting_[2];             // by class
  SlotList behind_;                 // a barrier that waits for those, and all that came after it
  std::array<First, 2> first_{};    // by class: of what waits first
  std::vector<uint64_t> since_ns_;  // by slot: when it began to wait
  uint32_t count_ = 0;              // that wait
  uint64_t now_ns_ = 0;             // of the pass under way
  uint64_t alarm_us_ = kNever;
};

}  // namespace ringdisk
