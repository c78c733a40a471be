// SPDX-License-Identifier: Apache-2.0
// What is done with a checked request, whoever asked for it: one queue's engine, on one reactor. It
// knows no ring and no protocol; what brings requests and takes answers is its Transport. THE TABLE
// OF CONTENTS is start() and finish() in request_engine.cc; the steps are in
//   order.cc    which requests may run now
//   limiter.h   tokens for them, where the disk is limited
//   memory.cc   memory for their data
//   start.cc    the operation that each becomes
//   advance.cc  what comes back
//   retry.cc    what fails and is tried again
// exchange.cc changes the stack of channels under way, tracking.cc has writes marked in bitmaps.
#pragma once

#include <functional>
#include <memory>

#include "channels/filter.h"
#include "io/alarms.h"
#include "io/bounce_share.h"
#include "metrics/counters.h"
#include "protocol/limits.h"
#include "reactor/reactor.h"
#include "request/limiter.h"
#include "request/limits.h"
#include "request/slot.h"
#include "request/stack.h"
#include "request/transport.h"
#include "targets/target.h"

namespace ringdisk {

// What becomes of a request whose I/O fails: the guest is told, or it waits while it is tried
// again.
enum class OnError : uint8_t { report, stop };

class RequestEngine final : public OperationSink, private Alarm {
 public:
  struct Setup {
    std::shared_ptr<Target> target;
    OnError on_error = OnError::report;
    // Whether a failed flush is answered, where others would be. A frontend of Linux takes that for
    // "no flush needed" for the rest of its connection, so that for it they are tried again.
    bool flush_errors_told = false;
    std::shared_ptr<Limits> limits{};  // null: none
    FilterMaker filter{};              // one that is there from the start; empty: none
    uint32_t depth = 0;                // requests that the transport has at a time, at most
    uint64_t vbd_name = 0;             // in probes: domid << 32 | devid
    uint32_t queue = 0;                // in probes
  };
  // On the reactor's thread. Throws std::system_error.
  RequestEngine(Reactor& reactor, Transport& transport, const Setup& setup,
                QueueCounters& counters);
  RequestEngine(const RequestEngine&) = delete;
  RequestEngine& operator=(const RequestEngine&) = delete;

  // A checked request, behind those that wait. Its slot comes back by Transport::answer().
  void accept(Slot& slot) { waiting_.push(slot); }
  // Whether there is sense in bringing more: what waits goes first.
  bool takes_more() const { return !barrier_ && waiting_.empty(); }
  // Starts what waits, in order, up to the first that can't start yet or until it is the
  // neighbours' turn. Returns whether any did.
  bool start();
  // What the target is done with goes on, or is answered.
  void finish();
  // Whether nothing can be done before something completes or is brought.
  bool may_sleep();
  void run_alarms(uint64_t now_us) { alarms_.run(now_us); }

  // Another stack of channels, in two phases; see exchange.cc. `ready` is called once on this
  // thread, at once or later: with 0, and then nothing is started until commit() or abandon(); or
  // with an errno, when all is as it was.
  void prepare(const StackChange& change, std::function<void(int error)> ready);
  void commit();
  void abandon();
  // No longer waits for quiet, where it does: `ready` is called with ECANCELED.
  void cancel_prepare();
  // From now on writes are marked in the bitmaps that its target has; see tracking.cc.
  void follow_target();

  // From now on, null for none; what waits loses its turn, and nothing else.
  void limit(std::shared_ptr<Limits> limits);
  // Rates of those that it has are others now.
  void limits_changed();

  // Nothing more is brought. What was is carried out, but what fails is answered, and so is what
  // has no tokens.
  void close();
  bool idle() const;
  // The end, when it is idle: `done` when the channel has let go, at once or later, on this thread.
  void end(std::function<void()> done);

  // The memory that is kept for this queue alone, where it has been used and is not now.
  // Some of it at a time; false: there is more.
  bool give_memory_back() {
    bounce_.give_reserve_back();
    return stack_.top()->give_memory_back();
  }
  bool holds_memory() const { return bounce_.holds_reserve() || stack_.top()->holds_memory(); }

  void finished(Operation& operation) override;

 private:
  friend struct Slot;
  using Kind = ValidRequest::Kind;
  using Stage = Slot::Stage;
  struct SectorRange {
    uint64_t first, end;
    bool overlaps(const SectorRange& other) const { return first < other.end && other.first < end; }
  };

  // Whether it may change what is on the medium; a flush brings that forward.
  static bool changes(const Slot& slot) {
    return slot.valid.kind != Kind::read && slot.valid.kind != Kind::map;
  }

  // limit.cc
  std::unique_ptr<Limiter> make_limiter(std::shared_ptr<Limits> limits);
  void pass_limits();

  // order.cc
  bool hold_for_fence(Slot& slot);
  void release_held();
  bool must_wait(const Slot& slot) const;
  bool is_exclusive(const Slot& slot) const;
  bool hold_blocks(Slot& slot);
  void release_blocks(Slot& slot);
  SectorRange range(const Slot& slot) const;
  void join_in_flight(Slot& slot);
  void leave_in_flight(Slot& slot);

  // memory.cc
  bool attach(Slot& slot);
  void detach(Slot& slot);
  bool needs_old_data(const Slot& slot) const;
  bool brings_data(const Slot& slot) const;

  // start.cc
  void start(Slot& slot);
  void start_write(Slot& slot);
  void start_io(Slot& slot, Stage stage, Operation::Kind kind);
  void start_discard(Slot& slot);
  void submit(Slot& slot);

  // advance.cc
  void advance(Slot& slot);
  void data_done(Slot& slot);
  void flush_done(Slot& slot);
  void merge();
  void deliver();
  void complete(Slot& slot, int32_t result);
  void count(const Slot& slot);

  // retry.cc
  bool is_tried_again(const Slot& slot) const;
  void retry(Slot& slot);
  void give_up(Slot& slot);
  void recovered(Slot& slot);
  void on_alarm(uint64_t now_us) override;

  // exchange.cc
  struct Change final : Alarm {
    RequestEngine* engine = nullptr;
    std::unique_ptr<Filter> comes;  // null: one goes
    uint32_t goes = 0;
    std::shared_ptr<Target> target;  // null: it stays
    std::unique_ptr<TargetChannel> bottom;
    std::function<void(int)> ready;  // empty: it has been called with 0
    void on_alarm(uint64_t now_us) override;
  };
  void put_filter(std::unique_ptr<Filter> filter);
  void change_target(Change& change);
  void tell_if_quiet();
  void give_up_change(int error);

  Reactor& reactor_;
  Transport& transport_;
  std::shared_ptr<Target> target_;
  const OnError on_error_;
  const bool flush_errors_told_;
  const uint64_t vbd_name_;
  const uint32_t queue_;
  const uint32_t io_alignment_;
  const std::shared_ptr<ChunkLocks> block_locks_;  // of all who write to the target; may be null
  QueueCounters& counters_;
  BounceShare bounce_;
  Alarms alarms_;
  const ChannelContext context_;
  Stack stack_;
  std::unique_ptr<Change> change_;          // under way
  std::shared_ptr<const Bitmaps> tracked_;  // as the stack has it
  std::unique_ptr<Limiter> limiter_;        // null: none

  SlotList waiting_;           // in order, not yet started
  SlotList held_;              // as waiting_, but must not run before the target's fence is lifted
  SlotList completed_;         // operation finished, not yet looked at
  SlotList retrying_;          // operation failed, to be tried again
  Slot* in_flight_ = nullptr;  // started, doubly linked
  uint32_t in_flight_count_ = 0;
  uint32_t exclusive_count_ = 0;  // of those: discards and read-modify-writes
  uint32_t retrying_count_ = 0;   // of those: in retrying_
  uint32_t failing_count_ = 0;    // of those: failed, and not answered since
  Slot* barrier_ = nullptr;       // in progress: nothing else starts
  // What the transport is called for, gathered in a round.
  SlotBatch coming_;   // writes whose data is to come in
  SlotBatch merging_;  // read-modify-writes whose old data is here
  SlotBatch going_;    // reads whose data is to go out
  SlotBatch over_;     // to be answered

  bool fenced_;           // as far as we know: a dead process may still be writing
  bool blocked_ = false;  // what waits can't start before something completes
  bool closing_ = false;
  bool ended_ = false;
  uint64_t retry_delay_us_ = kRetryMinUs;
};

}  // namespace ringdisk
