// SPDX-License-Identifier: Apache-2.0
// Queues on a reactor of their own, without an engine: a test chooses the target, keeps a hand on
// the frontend and calls what the engine would call.
#pragma once

#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "eventually.h"
#include "needs_uring.h"
#include "platform/loopback/loopback_platform.h"
#include "raw_frontend.h"
#include "ring/queue.h"
#include "scripted_target.h"
#include "temp_machine.h"

namespace ringdisk {

// Runs `work` on the reactor and waits (bounded) until it is done.
template <typename Work>
void run_on(Reactor& reactor, Work work) {
  std::promise<void> done;
  REQUIRE(reactor.post([&] {
    work();
    done.set_value();
  }));
  REQUIRE(done.get_future().wait_for(std::chrono::seconds(10)) == std::future_status::ready);
}

struct QueueSettings {
  uint32_t poll_budget_us = 50;  // of the reactor, where a test has one queue only
  Geometry geometry{0, kIndirectSegmentsMax, false, true, false};  // capacity from the target
  GrantStrategy grants = GrantStrategy::copy;
  uint32_t persistent_pages_max = 1056;
  Abi abi = Abi::x86_64;
  OnError on_error = OnError::report;
  std::shared_ptr<Limits> limits{};
};

// A connected queue. Closed, and checked to have let go of everything, at the end.
class ConnectedQueue final : private QueueEvents {
 public:
  // Throws std::system_error as Queue does.
  ConnectedQueue(Reactor& reactor, GrantBudget& budget, std::shared_ptr<Target> target, Domid domid,
                 const std::vector<GrantRef>& ring_refs, Port port, const QueueSettings& settings)
      : reactor_(reactor), counters_(std::make_shared<QueueCounters>()) {
    auto shared = std::make_shared<VbdShared>();
    shared->vbd = 1;
    shared->domid = domid;
    shared->abi = settings.abi;
    shared->grants = settings.grants;
    shared->on_error = settings.on_error;
    shared->geometry = settings.geometry;
    shared->capacity_sectors = target->capabilities().capacity / kSectorBytes;
    shared->persistent_pages_max = settings.persistent_pages_max;
    shared->target = std::move(target);
    shared->limits = settings.limits;
    shared->budget = &budget;
    shared->events = this;
    shared_ = shared;
    std::exception_ptr failure;
    run_on(reactor_, [&] {
      try {
        queue_ =
            std::make_unique<Queue>(reactor_, shared, QueueOptions{0, ring_refs, port}, counters_);
        queue_->serve();
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
  }
  ~ConnectedQueue() { close(); }
  ConnectedQueue(const ConnectedQueue&) = delete;
  ConnectedQueue& operator=(const ConnectedQueue&) = delete;

  const QueueCounters& counters() const { return *counters_; }
  VbdShared& shared() { return *shared_; }
  RequestEngine& requests() { return queue_->requests(); }  // its reactor's
  // As if so much time had passed.
  void pass(uint64_t us) {
    run_on(reactor_, [this, us] { queue_->on_deadline(Reactor::now_us() + us); });
  }
  // Asks the queue to close; does not wait.
  void begin_close() {
    if (closing_) return;
    closing_ = true;
    run_on(reactor_, [this] { queue_->close(); });
  }
  bool closed() const { return closed_; }
  bool drained() const { return drained_; }
  // Waits until the queue has let go, as its owner does before deleting it.
  void close() {
    begin_close();
    REQUIRE(eventually([this] { return closed_.load(); }));
    queue_.reset();
  }

  std::atomic<int> broken{0};
  std::atomic<int> failing_count{0};
  std::atomic<int> recovered_count{0};

 private:
  void ring_broken(uint32_t, uint32_t, const char*) override { broken++; }
  void queue_recovered(uint32_t, uint32_t) override {}
  void io_failing(uint32_t, uint32_t, int) override { failing_count++; }
  void io_recovered(uint32_t, uint32_t) override { recovered_count++; }
  void queue_closed(uint32_t, uint32_t, bool drained) override {
    drained_ = drained;
    closed_ = true;
  }

  Reactor& reactor_;
  std::shared_ptr<QueueCounters> counters_;
  std::shared_ptr<VbdShared> shared_;
  std::unique_ptr<Queue> queue_;
  bool closing_ = false;
  std::atomic<bool> closed_{false};
  std::atomic<bool> drained_{false};
};

// A machine with one reactor, and whatever guests and queues the test connects.
class QueueRig {
 public:
  static constexpr uint32_t kGuestPages = 4096;

  explicit QueueRig(size_t bounce_pool_bytes = 8u << 20, uint32_t poll_budget_us = 50)
      : platform(make_loopback_platform(machine_.dir())),
        reactor(*platform, probe_uring(), options(bounce_pool_bytes, poll_budget_us)) {}

  std::unique_ptr<LoopbackDomain> create_guest(Domid domid) {
    return std::make_unique<LoopbackDomain>(machine_.dir(), domid, kGuestPages);
  }
  std::unique_ptr<ConnectedQueue> connect(LoopbackDomain& guest, RawFrontend& frontend,
                                          std::shared_ptr<Target> target,
                                          const QueueSettings& settings = {}) {
    return std::make_unique<ConnectedQueue>(reactor, budget, std::move(target), guest.domid(),
                                            frontend.ring_refs, frontend.port(), settings);
  }
  const std::string& machine_dir() const { return machine_.dir(); }
  // Nothing of any guest is held.
  bool is_clean() const {
    return reactor.counters().mapped_pages.get() == 0 &&
           reactor.counters().bound_ports.get() == 0 && budget.used() == 0;
  }

 private:
  static ReactorOptions options(size_t bounce_pool_bytes, uint32_t poll_budget_us) {
    ReactorOptions chosen;
    chosen.bounce_pool_bytes = bounce_pool_bytes;
    chosen.poll_budget_us = poll_budget_us;
    return chosen;
  }
  TempMachine machine_;

 public:
  std::unique_ptr<Platform> platform;
  GrantBudget budget{65536};
  Reactor reactor;
};

// The usual cast: one guest, one frontend, one scripted target, connected.
struct OneQueue {
  QueueRig rig;
  std::unique_ptr<LoopbackDomain> guest;
  std::shared_ptr<ScriptedTarget> target;
  RawFrontend frontend;
  std::unique_ptr<ConnectedQueue> queue;

  static constexpr uint64_t kDiskBytes = 8u << 20;
  static constexpr uint64_t kDiskSectors = kDiskBytes / kSectorBytes;

  explicit OneQueue(const QueueSettings& settings = {}, uint32_t io_alignment = kSectorBytes,
                    uint32_t ring_pages = 1, uint32_t start = 0)
      : rig(8u << 20, settings.poll_budget_us),
        guest(rig.create_guest(1)),
        target(std::make_shared<ScriptedTarget>(kDiskBytes, io_alignment)),
        frontend(*guest, ring_pages, settings.abi, start),
        queue(rig.connect(*guest, frontend, target, settings)) {}
  ~OneQueue() {
    queue->begin_close();
    release_all();
    queue->close();
    CHECK(rig.is_clean());
    CHECK(guest->grants_in_use() == 0);
  }

  void finish(const ScriptedTarget::Held& held, int32_t result = 0) {
    target->finish(rig.reactor, held, result);
  }
  // Lets everything run that is held now or comes later.
  void release_all() {
    target->hold(false);
    for (const auto& held : target->await_held(0)) finish(held);
  }
  // Until everything the frontend has shown has been looked at: a round with nothing new.
  void settle() {
    for (int i = 0; i < 3; i++) run_on(rig.reactor, [] {});
  }
};

}  // namespace ringdisk
