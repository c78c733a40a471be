// SPDX-License-Identifier: Apache-2.0
// One queue of a VBD: one ring, one event channel, on one reactor. THE TABLE OF CONTENTS of a
// request is poll() and finish() in queue.cc; the steps are in
//   take.cc      1-3  out of the ring, indirect segments fetched, checked
//   segments.cc  4    bounce memory, and the data moved between it and the guest
//   dispatch.cc  5-6  ordering, and the operation for the target
//   respond.cc   7-8  what comes back, and the answer
// and what a process that died left behind is taken over in recover.cc.
#pragma once

#include <memory>
#include <span>

#include "grants/persistent_cache.h"
#include "io/bounce_share.h"
#include "metrics/counters.h"
#include "protocol/limits.h"
#include "protocol/validate.h"
#include "reactor/poller.h"
#include "reactor/reactor.h"
#include "ring/queue_events.h"
#include "ring/ring.h"
#include "ring/slot.h"
#include "targets/target.h"

namespace ringdisk {

enum class GrantStrategy : uint8_t { persistent, copy, map };

// What becomes of a request whose I/O fails: the guest is told, or it waits while it is tried
// again.
enum class OnError : uint8_t { report, stop };

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

class Queue final : public Poller, public OperationSink {
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

  bool poll() override;
  void finish() override;
  bool try_sleep() override;
  void on_deadline(uint64_t now_us) override;
  void on_event() override;
  void finished(Operation& operation) override;

 private:
  struct SectorRange {
    uint64_t first, end;
    bool overlaps(const SectorRange& other) const { return first < other.end && other.first < end; }
  };

  // recover.cc
  struct Remains {
    std::vector<Slot*> unfinished;        // taken, not answered
    std::vector<Slot*> undelivered;       // answered, not shown
    std::vector<JournalSlot*> delivered;  // shown, not freed
  };
  const char* examine();
  const char* sort_records(Remains& remains);
  const char* check_order(const Remains& remains) const;
  void recover();
  void tell_when_recovered();

  // take.cc
  bool may_take() const;
  uint32_t look();
  uint32_t take();
  void accept(std::span<Slot* const> batch);
  void fetch_indirect(std::span<Slot* const> batch);
  void fetch_indirect_page(Slot& slot);
  void check(std::span<Slot* const> batch);
  void reject(Slot& slot, Rejection rejection);
  void break_ring(const char* reason);

  // segments.cc
  bool attach(Slot& slot);
  bool needs_old_data(const Slot& slot) const;
  std::byte* guest_part(const Slot& slot) const;
  void move(Slot& slot, bool to_guest);
  bool move_mapped(Slot& slot, bool to_guest);
  void detach(Slot& slot);

  // dispatch.cc
  bool start_waiting();
  bool hold_for_fence(Slot& slot);
  void release_held();
  bool must_wait(const Slot& slot) const;
  bool is_exclusive(const Slot& slot) const;
  SectorRange range(const Slot& slot) const;
  void join_in_flight(Slot& slot);
  void leave_in_flight(Slot& slot);
  void start(Slot& slot);
  void start_write(Slot& slot);
  void start_io(Slot& slot, Slot::Stage stage, Operation::Kind kind);
  void start_discard(Slot& slot);
  void submit(Slot& slot);

  // respond.cc
  void advance(Slot& slot);
  void data_done(Slot& slot);
  void old_data_done(Slot& slot);
  void flush_done(Slot& slot);
  bool is_tried_again(const Slot& slot) const;
  void retry(Slot& slot);
  void give_up(Slot& slot);
  void recovered(Slot& slot);
  void land();
  void complete(Slot& slot, int32_t result);
  void answer(Slot& slot, int16_t status);
  void publish();
  void release_answered();
  void count(const Slot& slot, int32_t result);

  void open_journal(const QueueOptions& options);
  void take_ring(const QueueOptions& options);
  void schedule(uint64_t at_us);
  uint64_t age_memory(uint64_t now_us);
  bool holds_memory() const;
  void let_go_if_done();
  void unmask();
  uint32_t mapped_pages() const;
  bool idle() const;
  bool may_discard_journal() const;

  Reactor& reactor_;
  const std::shared_ptr<VbdShared> shared_;
  const uint64_t vbd_name_;  // in probes: domid << 32 | devid
  const uint32_t index_;
  const bool take_over_;
  const std::shared_ptr<QueueCounters> counters_;
  const uint32_t io_alignment_;

  GrantMapping ring_mapping_;
  Port port_ = 0;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<SlotPool> slots_;
  std::unique_ptr<TargetChannel> channel_;
  std::unique_ptr<PersistentCache> persistent_;  // strategy persistent only
  BounceShare bounce_;

  std::vector<uint64_t> seen_ns_;  // by ring entry: when its request was first seen
  uint32_t seen_prod_ = 0;         // index of the first request that was not
  Remains remains_;                // found by examine(), until serve()
  uint32_t resumed_at_ = 0;        // index of the first request that no dead process has taken

  SlotList waiting_;           // valid, in ring order, not yet started
  SlotList held_;              // as waiting_, but must not run before the target's fence is lifted
  SlotList completed_;         // operation finished, not yet looked at
  SlotList landing_;           // reads whose data is on its way to the guest
  SlotList answered_;          // response written, not yet published
  SlotList retrying_;          // operation failed, to be tried again
  Slot* in_flight_ = nullptr;  // started, doubly linked
  uint32_t in_flight_count_ = 0;
  uint32_t exclusive_count_ = 0;  // of those: discards and read-modify-writes
  uint32_t failing_count_ = 0;    // of those: failed, and not answered since
  Slot* barrier_ = nullptr;       // in progress: nothing else starts

  bool fenced_;           // as far as we know: a dead process may still be writing
  bool blocked_ = false;  // what waits can't start before something completes
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
  uint64_t retry_at_us_ = kNever;
  uint64_t retry_delay_us_ = kRetryMinUs;
};

}  // namespace ringdisk
