// SPDX-License-Identifier: Apache-2.0
#include "ring/queue.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/assert.h"
#include "base/kill_point.h"

namespace ringdisk {
namespace {

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(-error, std::generic_category(), what);
}

uint32_t entries_of(const VbdShared& shared, const QueueOptions& options) {
  return wire::ring_entries(shared.abi, static_cast<uint32_t>(options.ring_refs.size()));
}

uint64_t name_of(const VbdShared& shared) { return uint64_t{shared.domid} << 32 | shared.devid; }

RequestEngine::Setup engine_setup(const VbdShared& shared, const QueueOptions& options) {
  return {.target = shared.target,
          .on_error = shared.on_error,
          .limits = shared.limits,
          .filter = shared.filter,
          .depth = entries_of(shared, options),
          .vbd_name = name_of(shared),
          .queue = options.index};
}

}  // namespace

// A request's life, first half: taken from the ring, checked, given memory, handed to the target.
bool Queue::poll() {
  counters_->polls.add();
  const uint32_t taken = take();
  const bool started = requests_.start();
  if (recovering_) tell_when_recovered();
  return taken > 0 || started;
}

// A request's life, second half: the target is done with some of them.
void Queue::finish() {
  requests_.finish();
  publish();
  let_go_if_done();
  // A frontend that was answered mostly asks again: look for it before it has to notify us.
  if (closing_ || broken_) return;
  ring_->hold_off();
  reactor_.activate(*this);
}

Queue::Queue(Reactor& reactor, std::shared_ptr<VbdShared> shared, const QueueOptions& options,
             std::shared_ptr<QueueCounters> counters)
    : reactor_(reactor),
      shared_(std::move(shared)),
      vbd_name_(name_of(*shared_)),
      index_(options.index),
      take_over_(options.take_over),
      counters_(std::move(counters)),
      slots_(entries_of(*shared_, options)),
      arena_(entries_of(*shared_, options)),
      requests_(reactor, *this, engine_setup(*shared_, options), *counters_) {
  if (shared_->grants == GrantStrategy::persistent)
    persistent_ = std::make_unique<PersistentCache>(reactor_.grants(), *shared_->budget,
                                                    shared_->domid, shared_->persistent_pages_max);
  if (const int error =
          reactor_.grants().map(shared_->domid, options.ring_refs, true, ring_mapping_);
      error != 0)
    fail(error, "cannot map the ring of queue " + std::to_string(index_) + " (first ring-ref " +
                    std::to_string(options.ring_refs[0]) + ")");
  RD_KILL_POINT("connect:mapped");
  try {
    take_ring(options);
  } catch (...) {
    if (journal_ && !take_over_) journal_->discard();
    reactor_.grants().unmap(ring_mapping_);
    throw;
  }
  seen_prod_ = ring_->req_cons();
  counters_->mapped_pages.set(ring_mapping_.page_count);
  RD_KILL_POINT("connect:made");
}

void Queue::serve() {
  RD_KILL_POINT("connect:serving");
  serving_ = true;
  // It may have fired since it was bound, when the reactor did not know whose it was.
  masked_ = true;
  reactor_.add(*this, port_);
  requests_.follow_target();
  if (take_over_) recover();
  RD_KILL_POINT("connect:ready");
  // A frontend may wait for an answer whose notification was lost before we came.
  reactor_.events().notify(port_);
}

void Queue::take_ring(const QueueOptions& options) {
  ring_ = std::make_unique<Ring>(ring_mapping_.address, shared_->abi, ring_mapping_.page_count);
  open_journal(options);
  RD_KILL_POINT("connect:journal");
  // Binding tells whether the guest still knows this ring, so it comes before anything is shown.
  if (const int error = reactor_.bind(shared_->domid, options.remote_port, port_); error != 0)
    fail(error, "cannot bind event-channel " + std::to_string(options.remote_port) + " of queue " +
                    std::to_string(index_));
  RD_KILL_POINT("connect:bound");
  if (!options.take_over) return;
  if (const char* wrong = examine()) {
    reactor_.unbind(port_);
    fail(-ESTALE, "cannot take over the ring of queue " + std::to_string(index_) + ": " + wrong);
  }
}

void Queue::open_journal(const QueueOptions& options) {
  JournalIdentity identity;
  identity.abi = static_cast<uint32_t>(shared_->abi);
  identity.domid = shared_->domid;
  identity.remote_port = options.remote_port;
  identity.ring_pages = ring_mapping_.page_count;
  std::ranges::copy(options.ring_refs, identity.ring_refs.begin());
  const auto mode = options.take_over ? Journal::Mode::take_over : Journal::Mode::create;
  journal_ = std::make_unique<Journal>(options.journal, mode, ring_->entries(), identity,
                                       ring_->rsp_prod());
  seen_ns_.resize(ring_->entries());
}

Queue::~Queue() { RD_ASSERT(gone_ || !ring_); }

void Queue::close() {
  closing_ = true;
  RD_KILL_POINT("disconnect:asked");
  requests_.close();
  reactor_.mark_dirty(*this);
  reactor_.activate(*this);  // what was taken and still waits is carried out
}

// When to look again. Unmapping many pages takes long, and the neighbours wait: some at a time.
uint64_t Queue::age_memory(uint64_t now_us) {
  if (!requests_.give_memory_back()) return now_us + kUnmapPauseUs;
  if (persistent_ && !persistent_->age(kUnmapSlice)) return now_us + kUnmapPauseUs;
  return holds_memory() ? now_us + kGrantAgeUs : kNever;
}

bool Queue::holds_memory() const {
  return requests_.holds_memory() || (persistent_ && persistent_->mapped_pages() > 0);
}

// Lets go of everything the guest gave us, once the kernel has.
void Queue::let_go_if_done() {
  if (!closing_ || gone_ || !requests_.idle()) return;
  // The rest in the next round.
  if (persistent_ && !persistent_->unmap_some(kUnmapSlice)) return reactor_.mark_dirty(*this);
  gone_ = true;
  reactor_.later([this] { requests_.end([this] { let_go(); }); });
}

// No poller is running.
void Queue::let_go() {
  reactor_.remove(*this, port_);
  persistent_.reset();
  RD_KILL_POINT("disconnect:drained");
  reactor_.grants().unmap(ring_mapping_);
  RD_KILL_POINT("disconnect:unmapped");
  reactor_.unbind(port_);
  RD_KILL_POINT("disconnect:unbound");
  counters_->mapped_pages.set(0);
  counters_->in_flight.set(0);
  if (may_discard_journal()) journal_->discard();
  RD_KILL_POINT("disconnect:discarded");
  shared_->events->queue_closed(shared_->vbd, index_, !broken_ && slots_.all_free());
}

// What could not be answered is left to whoever comes next, and so is all of a dead process's where
// serving never began.
bool Queue::may_discard_journal() const { return serving_ ? slots_.all_free() : !take_over_; }

bool Queue::try_sleep() {
  if (!requests_.may_sleep()) return false;
  if (closing_ || broken_ || !requests_.takes_more()) return true;
  if (resume_at_us_ != 0) {
    schedule(resume_at_us_);
    return true;
  }
  if (masked_) unmask();
  ring_->arm();
  return ring_->waiting() == 0;
}

void Queue::on_event() {
  counters_->notifications_received.add();
  masked_ = true;
  woken_ = true;
}

// Events that bring no request cost the guest delay instead of costing the host CPU (XSA-332).
void Queue::unmask() {
  constexpr uint32_t kFree = 2;
  const uint64_t now = reactor_.recent_us();
  if (woken_) vain_wakeups_++;
  woken_ = false;
  if (vain_wakeups_ > kFree) {
    if (unmask_at_us_ == kNever)
      unmask_at_us_ = now + std::min(kStormDelayMaxUs,
                                     kStormDelayMinUs << std::min(vain_wakeups_ - kFree - 1, 6u));
    if (now < unmask_at_us_) return schedule(unmask_at_us_);
  }
  unmask_at_us_ = kNever;
  masked_ = false;
  reactor_.unmask(port_);
}

uint32_t Queue::mapped_pages() const {
  return ring_mapping_.page_count + (persistent_ ? persistent_->mapped_pages() : 0);
}

void Queue::schedule(uint64_t at_us) { reactor_.wake_by(*this, at_us); }

void Queue::on_deadline(uint64_t now_us) {
  requests_.run_alarms(now_us);
  if (age_at_us_ <= now_us) {
    age_at_us_ = age_memory(now_us);
    counters_->mapped_pages.set(mapped_pages());
  }
  if (age_at_us_ != kNever) schedule(age_at_us_);
  // Penalty and delayed unmask are looked at by poll() and try_sleep().
  reactor_.activate(*this);
}

void Queue::io_failing(int error) { shared_->events->io_failing(shared_->vbd, index_, error); }

void Queue::io_recovered() { shared_->events->io_recovered(shared_->vbd, index_); }

}  // namespace ringdisk
