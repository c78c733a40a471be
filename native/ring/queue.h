// SPDX-License-Identifier: Apache-2.0
// One queue of a VBD: one ring, one event channel, on one reactor, and the engine that carries its
// requests out. THE TABLE OF CONTENTS of a request is poll() and finish() in queue.cc; the steps
// are in
//   take.cc      1-3  out of the ring, indirect segments fetched, checked
//   segments.cc  4    the data moved between the guest and the engine's memory
//   request/     5-7  ordering, memory, the operation for the target, what comes back
//   answer.cc    8    the answer
// and what a process that died left behind is taken over in recover.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "grants/persistent_cache.h"
#include "metrics/counters.h"
#include "protocol/limits.h"
#include "protocol/validate.h"
#include "reactor/reactor.h"
#include "request/request_engine.h"
#include "request/transport.h"
#include "ring/journal.h"
#include "ring/queue_events.h"
#include "ring/ring.h"
#include "ring/ring_slot.h"
#include "targets/target.h"

namespace ringdisk {

enum class GrantStrategy : uint8_t { persistent, copy, map };

// What all queues of a VBD share: made at connect; only the capacity changes afterwards (it grows).
struct VbdShared {
  uint32_t vbd = 0;
  Domid domid = 0;
  uint32_t devid = 0;  // for the probes: how the toolstack names the disk
  Abi abi = Abi::x86_64;
  GrantStrategy grants = GrantStrategy::copy;
  OnError on_error = OnError::report;
  Geometry geometry;  // capacity_sectors: see below
  std::atomic<uint64_t> capacity_sectors{0};
  uint32_t persistent_pages_max = 0;  // per queue
  std::shared_ptr<Target> target;
  std::shared_ptr<Limits> limits;  // at connect; null: none
  FilterMaker filter;              // at connect; empty: none
  GrantBudget* budget = nullptr;
  QueueEvents* events = nullptr;
};

struct QueueOptions {
  uint32_t index = 0;
  std::vector<GrantRef> ring_refs;
  Port remote_port = 0;
  std::string journal{};   // its file; empty: none, nobody can take this queue over
  bool take_over = false;  // go on with the ring of a process that died
};

class Queue final : public Transport {
 public:
  // On the reactor's thread. Maps the ring, binds the port and locks and checks the journal; throws
  // std::system_error saying which of them is spoiled, with nothing left behind. Neither the ring
  // nor a journal to take over has been changed when this returns.
  Queue(Reactor& reactor, std::shared_ptr<VbdShared> shared, const QueueOptions& options,
        std::shared_ptr<QueueCounters> counters);
  ~Queue() override;

  // From now on requests are taken; a dead process's answers are shown and its requests replayed.
  // Once, and only when every queue of the VBD could be made: they are taken over all or none.
  void serve();
  // Takes no more requests; when all taken ones are answered, everything is let go and
  // events->queue_closed() is called, after which the owner deletes this queue. A queue that never
  // served leaves a journal it was to take over as it found it.
  void close();

  RequestEngine& requests() { return requests_; }

  bool poll() override;
  void finish() override;
  bool try_sleep() override;
  void on_deadline(uint64_t now_us) override;
  void on_event() override;
  void look_at_target() override { requests_.follow_target(); }

 private:
  // For the engine.
  void fetch(std::span<Slot* const> writes) override;
  void deliver(std::span<Slot* const> reads) override;
  void answer(std::span<Slot* const> over) override;
  void io_failing(int error) override;
  void io_recovered() override;

  // recover.cc
  struct Remains {
    std::vector<RingSlot*> unfinished;    // taken, not answered
    std::vector<RingSlot*> undelivered;   // answered, not shown
    std::vector<JournalSlot*> delivered;  // shown, not freed
  };
  const char* examine();
  const char* sort_records(Remains& remains);
  const char* check_order(const Remains& remains) const;
  void recover();
  void tell_when_recovered();

  // take.cc
  uint32_t look();
  uint32_t take();
  void accept(std::span<RingSlot* const> batch);
  void fetch_indirect(std::span<RingSlot* const> batch);
  void fetch_indirect_page(RingSlot& slot);
  void check(std::span<RingSlot* const> batch);
  void reject(RingSlot& slot, Rejection rejection);
  void break_ring(const char* reason);

  // segments.cc
  void move(RingSlot& slot, bool to_guest);
  bool move_mapped(RingSlot& slot, bool to_guest);

  // answer.cc
  void write_answer(RingSlot& slot, int16_t status);
  void respond(RingSlot& slot, int16_t status);
  void publish();
  void release_answered();

  // All slots that the engine has are of this ring's pool.
  static RingSlot& ours(Slot& slot) { return static_cast<RingSlot&>(slot); }
  void open_journal(const QueueOptions& options);
  void take_ring(const QueueOptions& options);
  void schedule(uint64_t at_us);
  uint64_t age_memory(uint64_t now_us);
  bool holds_memory() const;
  void let_go_if_done();
  void let_go();
  void unmask();
  uint32_t mapped_pages() const;
  bool may_discard_journal() const;

  Reactor& reactor_;
  const std::shared_ptr<VbdShared> shared_;
  const uint64_t vbd_name_;  // in probes: domid << 32 | devid
  const uint32_t index_;
  const bool take_over_;
  const std::shared_ptr<QueueCounters> counters_;

  GrantMapping ring_mapping_;
  Port port_ = 0;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<Journal> journal_;
  SlotPool<RingSlot> slots_;
  SegmentArena arena_;
  RequestEngine requests_;
  std::unique_ptr<PersistentCache> persistent_;  // strategy persistent only

  std::vector<uint64_t> seen_ns_;  // by ring entry: when its request was first seen
  uint32_t seen_prod_ = 0;         // index of the first request that was not
  Remains remains_;                // found by examine(), until serve()
  uint32_t resumed_at_ = 0;        // index of the first request that no dead process has taken

  SlotList answered_;  // response written, not yet published

  bool broken_ = false;
  bool serving_ = false;
  bool recovering_ = false;  // not all that a dead process left is answered
  bool closing_ = false;
  bool gone_ = false;    // close() has run to its end
  bool masked_ = false;  // the event channel, since it fired
  bool woken_ = false;   // by an event, and nothing was found yet
  uint32_t vain_wakeups_ = 0;
  uint64_t unmask_at_us_ = kNever;
  uint64_t resume_at_us_ = 0;    // penalty for rejected requests; 0: none
  uint64_t age_at_us_ = kNever;  // look for unused persistent grants and bounce memory
};

}  // namespace ringdisk
