// SPDX-License-Identifier: Apache-2.0
// The data path as its owner sees it: reactors, opened targets, connected VBDs. Every call returns
// at once; results come out of collect() with the command's number. One owner thread makes all
// calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "channels/filter.h"
#include "engine/event_bus.h"
#include "engine/exchange.h"
#include "engine/exports.h"
#include "engine/fill_target.h"
#include "engine/mirror.h"
#include "metrics/counters.h"
#include "platform/platform.h"
#include "reactor/reactor.h"
#include "ring/queue.h"
#include "targets/target.h"
#include "targets/workers.h"

namespace ringdisk {

struct EngineOptions {
  unsigned reactors = 1;
  std::vector<int> cpus{};  // one per reactor, or empty: unpinned
  uint32_t poll_budget_us = 50;
  size_t bounce_pool_bytes = 32u << 20;   // per reactor
  uint32_t persistent_pages_max = 65536;  // host-wide
  std::string fill_dir{};  // on tmpfs; empty: what is here of a fill is known to this process alone
  std::string worker_program{};  // empty: the one beside this code
};

struct ConnectRequest {
  uint32_t target = 0;
  Domid domid = 0;
  uint32_t devid = 0;
  Abi abi = Abi::x86_64;
  GrantStrategy grants = GrantStrategy::copy;
  OnError on_error = OnError::report;
  Geometry geometry{};  // capacity_sectors: see below
  // The guest has been told so much. The target may be smaller by now, which is for it to say.
  uint64_t capacity_sectors_min = 0;
  uint32_t persistent_pages_max = 0;  // for the VBD, shared out over its queues
  std::string limits{};               // the name of a set; empty: none
  uint32_t mirror = 0;                // one of its target, from the first request on; 0: none
  std::vector<QueueOptions> queues{};
};

struct EngineEvent {
  enum class Type : uint8_t {
    done,
    failed,
    recovered,
    ring_broken,
    io_failing,
    io_recovered,
    fence_lifted,
    target_warned,   // facts: with it (value: the target)
    mirror_gone,     // all of it (value: the mirror)
    mirror_changed,  // it is ready, or over (value: the mirror)
  };
  Type type;
  uint32_t command = 0;  // recovered: that of the connect
  // done: the target's, VBD's or export's handle; for a disconnect 1 if drained, else 0
  uint32_t value = 0;
  std::optional<MediumFacts> facts{};  // a target was opened or refreshed
  bool fenced = false;  // a target was claimed: writes wait until fence_lifted (value: the target)
  int error = 0;        // errno
  // What failed; fence_lifted: a warning for the operator, where there is one.
  std::string text{};
  uint32_t vbd = 0;
  uint32_t queue = 0;
};

class Engine final : private QueueEvents {
 public:
  // `wake` is called on any thread when collect() has something. Throws std::system_error.
  Engine(std::unique_ptr<Platform> platform, const EngineOptions& options,
         std::function<void()> wake);
  ~Engine() override;  // no VBD may be connected

  // Opens and probes; nothing is excluded by that. As long as the medium takes, which may be for
  // ever.
  void open_target(uint32_t command, const TargetSpec& spec);
  // An open_target() that has not been answered fails at once with ECANCELED.
  void cancel_open(uint32_t open_command);
  // Once, before a VBD that writes is connected.
  void claim_target(uint32_t command, uint32_t target, const TargetClaim& claim);
  void refresh_target(uint32_t command, uint32_t target);
  void close_target(uint32_t command, uint32_t target);
  // Whoever writes to the target from now on, by whichever VBD or export, marks it first in all of
  // these files (base/bitmap.h) and in no others. Done when all do; what was in flight then is
  // marked as well.
  void track(uint32_t command, uint32_t target, const std::vector<std::string>& bitmaps);
  // All queues are made and checked before any of them serves: if one cannot be, none has shown an
  // answer or changed a journal it was to take over. Where queues are taken over, `recovered` comes
  // after `done`, when all that the dead process left is answered.
  // Throws std::invalid_argument when the request is out of bounds (a mistake of the caller's).
  void connect(uint32_t command, const ConnectRequest& request);
  // While the guest runs; all queues, or none. One at a time.
  void exchange(uint32_t command, uint32_t vbd, StackChange change);
  // What the VBD's target is mirrored to: see engine/mirrors.cc. The map has been made, or was left
  // by a process that died. Done with the mirror's handle.
  void make_mirror(uint32_t command, uint32_t target, const MirrorSetup& setup);
  // Once. It has been claimed, and no dead process writes to it any more.
  void give_mirror(uint32_t command, uint32_t mirror, uint32_t destination);
  // Of a connected VBD on the mirror's target.
  void attach_mirror(uint32_t command, uint32_t vbd, uint32_t mirror);
  void detach_mirror(uint32_t command, uint32_t vbd);
  // Done when nothing of the VBD's is under way; nothing is until it is decided.
  void begin_switch(uint32_t command, uint32_t vbd);
  // Where `error` is 0 the destination is the VBD's target from now on, and the mirror is detached.
  void decide_switch(uint32_t command, uint32_t vbd, int error);
  void set_mirror(uint32_t mirror, const MirrorWish& wish);
  // From now on the source alone is the disk.
  void end_mirror(uint32_t mirror);
  // No VBD may have it. Done when its source is let go of; `mirror_gone` when the destination has
  // answered all it was asked.
  void close_mirror(uint32_t command, uint32_t mirror);
  std::optional<MirrorStatus> mirror_status(uint32_t mirror) const;
  void disconnect(uint32_t command, uint32_t vbd);
  // A named set of limits, for one VBD or export, or several together. Made, or changed while
  // guests run. It outlives connections, so that a guest does not fill its buckets by connecting
  // anew.
  void set_limits(const std::string& name, const LimitRates& rates);
  // What a VBD or export has of a set that several share, by its weight: a set by itself. Throws
  // std::invalid_argument where there is no such group.
  void set_share(const std::string& name, const std::string& group, uint32_t weight);
  // VBDs that are limited by it stay so until they are told otherwise, or are gone.
  void drop_limits(const std::string& name) { limits_.erase(name); }
  // From now on this set holds for the VBD, or none where the name is empty. Throws
  // std::invalid_argument where there is no such connected VBD or no such set.
  void limit(uint32_t vbd, const std::string& name);
  // The same for all clients of an export together.
  void limit_export(uint32_t handle, const std::string& name);
  // By NBD, on a UNIX socket. A target that clients may write to must have been claimed.
  void add_export(uint32_t command, const ExportRequest& request);
  // Done when its clients are gone.
  void remove_export(uint32_t command, uint32_t handle);
  std::vector<EngineEvent> collect();

  bool idle() const { return vbds_.empty() && exports_->empty() && mirrors_.empty(); }
  std::vector<std::shared_ptr<QueueCounters>> counters(uint32_t vbd) const;
  // Of the connections that there are now; throws std::invalid_argument.
  std::vector<std::shared_ptr<QueueCounters>> export_counters(uint32_t handle) const {
    return exports_->counters(handle);
  }
  // Connections to it that clients which wrote or flushed have ended in order.
  uint64_t export_goodbyes(uint32_t handle) const { return exports_->goodbyes(handle); }
  // Indices of the reactors that serve its queues, by queue.
  std::vector<uint32_t> reactors_of(uint32_t vbd) const;
  const std::vector<std::unique_ptr<Reactor>>& reactors() const { return reactors_; }
  uint32_t persistent_pages() const { return budget_.used(); }
  // What the target's worker has been waiting for for longer than a second.
  std::vector<TargetWait> target_waits(uint32_t target) const;
  // The process number of the target's worker; 0: it has none.
  int target_worker(uint32_t target) const;
  // Of a target of kind fill; none: it is none, or was full when it was opened.
  std::optional<FillStatus> fill_status(uint32_t target) const;
  // Of its job; false: there is none.
  bool set_fill(uint32_t target, uint64_t rate, bool paused);

 private:
  struct Vbd {
    std::shared_ptr<VbdShared> shared;
    std::shared_ptr<Limits> limits;                        // now
    std::vector<Reactor*> reactors;                        // by queue
    std::vector<std::unique_ptr<Queue>> queues;            // written by the queue's reactor
    std::vector<std::shared_ptr<QueueCounters>> counters;  // by queue
    enum class Phase : uint8_t { making, starting, connected, closing };
    Phase phase = Phase::making;
    uint32_t pending = 0;     // queues whose report on the phase is outstanding
    uint32_t recovering = 0;  // queues that have not answered all that a dead process left
    bool take_over = false;
    uint32_t connect_command = 0;
    uint32_t command = 0;  // the connect or disconnect under way
    bool drained = true;
    uint32_t mirror = 0;
    std::shared_ptr<Exchange> exchange;  // under way; a disconnect then waits for its end
    uint32_t exchange_command = 0;       // who is told of that
    uint32_t next_mirror = 0;            // what the mirror becomes by it
    std::shared_ptr<Target> next;        // and the target; null: it stays
    int error = 0;                       // first failure while connecting
    std::string text;
  };

  void ring_broken(uint32_t vbd, uint32_t queue, const char* reason) override;
  void queue_recovered(uint32_t vbd, uint32_t queue) override;
  void io_failing(uint32_t vbd, uint32_t queue, int error) override;
  void io_recovered(uint32_t vbd, uint32_t queue) override;
  void queue_closed(uint32_t vbd, uint32_t queue, bool drained) override;

  static void check(const ConnectRequest& request, const Target& target);
  void make_queue(Vbd& vbd, const QueueOptions& options);
  void start(Vbd& vbd);
  void take_down(Vbd& vbd);
  void handle(BusMessage& message);
  void on_target(BusMessage& message);
  FillTarget* find_fill(uint32_t target) const;
  void target_opened(BusMessage& message);
  void target_claimed(const BusMessage& message);
  bool is_used(const std::shared_ptr<Target>& target) const;
  void tell_of_target(const BusMessage& message);
  void on_fence_lifted(const BusMessage& message);
  void on_target_warned(const BusMessage& message);
  void on_queue(BusMessage& message);
  void exchanged(const BusMessage& message);
  Vbd* find_connected(uint32_t command, uint32_t vbd);
  void begin_exchange(uint32_t command, Vbd& vbd, StackChange change, uint32_t next_mirror);
  Mirror* find_mirror(uint32_t command, uint32_t mirror);
  void on_mirror(const BusMessage& message);
  void tell_if_recovered(const Vbd& vbd);
  void settle(uint32_t handle, Vbd& vbd);
  void end(uint32_t handle, Vbd& vbd);
  std::shared_ptr<Limits> find_limits(const std::string& name) const;
  static void tell_queues(const Vbd& vbd, const std::function<void(RequestEngine&)>& what);
  void grow(const std::shared_ptr<Target>& target);
  void refuse(uint32_t command, int error, const char* text);
  void fail(uint32_t command, int error, std::string text);

  std::unique_ptr<Platform> platform_;
  const std::string fill_dir_;
  GrantBudget budget_;
  std::shared_ptr<EventBus> bus_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::unique_ptr<ExportTable> exports_;
  // Lanes are the reactors', targets ask it: between the two.
  std::unique_ptr<Workers> workers_;
  std::unordered_map<uint32_t, std::function<void()>> opening_;  // by command: how it is given up
  size_t next_reactor_ = 0;
  uint32_t next_handle_ = 1;
  std::unordered_map<uint32_t, std::shared_ptr<Target>> targets_;
  std::unordered_map<uint32_t, std::shared_ptr<Mirror>> mirrors_;
  std::unordered_map<uint32_t, std::unique_ptr<Vbd>> vbds_;
  std::unordered_map<std::string, std::shared_ptr<Limits>> limits_;
  std::vector<EngineEvent> events_;
};

}  // namespace ringdisk
