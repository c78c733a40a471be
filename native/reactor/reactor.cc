// SPDX-License-Identifier: Apache-2.0
#include "reactor/reactor.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <system_error>

#include "base/assert.h"
#include "base/kill_point.h"
#include "grants/counted_grants.h"
#include "protocol/limits.h"
#include "targets/target.h"

namespace ringdisk {

namespace {
constexpr uint32_t kRoundsPerClock = 64;
// So many that it is worth looking out for each: with more, several are done after any sleep.
constexpr uint32_t kFewInFlight = 4;
constexpr uint64_t kFarUs = 1'000'000;
constexpr uint32_t kVainRoundsMax = 64;
}  // namespace

// The root frame of every profile of this thread.
extern "C" [[gnu::noinline]] void* ringdisk_reactor_thread(void* (*body)(void*), void* self) {
  void* result = body(self);
  asm volatile("" ::: "memory");  // not a tail call: this frame stays on the stack
  return result;
}

Reactor::Reactor(Platform& platform, const UringFeatures& features, const ReactorOptions& options)
    : platform_(platform),
      features_(features),
      options_(options),
      poll_budget_(options.poll_budget_us) {
  if (const int error = ::pthread_create(&thread_, nullptr, &Reactor::entry, this); error != 0)
    throw std::system_error(error, std::generic_category(), "cannot start a reactor");
  started_.wait(0);
  if (started_ > 0) return;
  ::pthread_join(thread_, nullptr);
  throw std::system_error(start_errno_, std::generic_category(), start_error_);
}

Reactor::~Reactor() {
  stopping_ = true;
  mailbox_.wake();
  ::pthread_join(thread_, nullptr);
}

void* Reactor::entry(void* self) {
  return ringdisk_reactor_thread(
      [](void* reactor) -> void* {
        static_cast<Reactor*>(reactor)->run();
        return nullptr;
      },
      self);
}

void Reactor::set_up() {
  ::pthread_setname_np(::pthread_self(), ("rd-reactor-" + std::to_string(options_.index)).c_str());
  if (options_.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(options_.cpu, &cpus);
    if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus);
        error != 0)
      throw std::system_error(error, std::generic_category(),
                              "cannot pin a reactor to CPU " + std::to_string(options_.cpu));
  }
  // Here and not in the constructor: the ring belongs to the thread that makes it (SINGLE_ISSUER).
  uring_ = std::make_unique<Uring>(features_);
  lanes_ = std::make_unique<Lanes>(
      [this](std::function<void()> work) { mailbox_.post_always(std::move(work)); });
  grants_ = std::make_unique<CountedGrants>(platform_.open_grant_table(), counters_);
  events_ = platform_.open_event_channels();
  bounce_ = std::make_unique<BouncePool>(*uring_, options_.bounce_pool_bytes);
  transfer_ = std::make_unique<Transfer>(*grants_);
  event_watch_ = std::make_unique<EventWatch>(*events_, *uring_, counters_);
  uring_->watch(mailbox_.fd(), Wakeup::mailbox);
  listen_to_lanes();
}

void Reactor::run() {
  try {
    set_up();
    started_ = 1;
  } catch (const std::system_error& error) {
    start_errno_ = error.code().value();
    start_error_ = error.what();
    started_ = -1;
  }
  started_.notify_all();
  if (started_ < 0) return;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (has_work() && round()) {
      wait_ended();
      if (!sleeps_next_) continue;
    }
    if (!spin_on()) doze();
  }
  RD_ASSERT(all_.empty());
  tear_down();
}

// On the thread that set it up, users before what they use.
void Reactor::tear_down() {
  transfer_.reset();
  uring_.reset();
  lanes_.reset();
  bounce_.reset();
  event_watch_.reset();
  events_.reset();
  grants_.reset();
}

// Before the next sleep. Nobody active has nobody to look at.
bool Reactor::has_work() const {
  return !active_.empty() || mailbox_pending_ || event_watch_->pending() || !dirty_.empty() ||
         !later_.empty();
}

// One turn: everything that is done before anything sleeps.
bool Reactor::round() {
  bool worked = mailbox_pending_ && run_mailbox();
  worked |= event_watch_->pending() && take_events();
  worked |= poll_active();
  lanes_->ring();
  submit(worked);
  RD_KILL_POINT("submit:entered");
  const bool completed = run_lanes() | complete();
  worked |= completed;
  // A guest that asks little at a time has nothing more right after, and going to sleep looks once
  // more. But what was completed may let somebody start who would agree to sleep.
  sleeps_next_ = held_back_ && !completed && operations_in_flight() <= kFewInFlight;
  run_later();
  // A reactor that never sleeps looks at the clock now and then, for those who wait for it.
  if (++rounds_ % kRoundsPerClock == 0) {
    read_clock();
    run_deadlines();
    update_counters();
  }
  return worked;
}

// Beside a busy neighbour nobody sleeps: who has long found nothing is told by its event channel
// when there is something, instead of being looked at in every round. Rounds in which nobody found
// anything do not count: how long to look out then is the poll budget's to say.
bool Reactor::poll_active() {
  bool worked = false;
  const uint32_t vain = found_before_ ? 1 : 0;
  for (size_t i = 0; i < active_.size();) {
    Poller& poller = *active_[i];
    const bool found = poller.poll();
    worked |= found;
    poller.vain_rounds_ = found ? 0 : poller.vain_rounds_ + vain;
    if (poller.vain_rounds_ >= kVainRoundsMax && rests(poller)) {
      active_[i] = active_.back();
      active_.pop_back();
    } else {
      i++;
    }
  }
  found_before_ = worked;
  return worked;
}

bool Reactor::rests(Poller& poller) {
  poller.vain_rounds_ = 0;
  if (!poller.try_sleep()) return false;
  poller.active_ = false;
  return true;
}

// Where looking out for a device does not pay, what was reserved goes with the call that sleeps,
// one look at the rings later: a system call less.
void Reactor::submit(bool worked) {
  const bool goes_with_sleep = !poll_budget_.looks(wait_kind()) && !(worked && held_back_);
  held_back_ = goes_with_sleep && worked;
  if (!goes_with_sleep) uring_->submit();
}

// Whether to go round again instead of sleeping. A wait counts since the clock was last read: for a
// reactor that sleeps at once it is not read anew.
bool Reactor::spin_on() {
  if (active_.empty()) return false;
  const bool begins = !waiting_;
  if (begins) {
    waiting_ = wait_kind();
    waiting_since_us_ = recent_us();
  }
  if (!poll_budget_.looks(*waiting_)) return false;
  const uint64_t now = read_clock() / 1000;
  if (begins) looking_since_us_ = now;
  return poll_budget_.allows(*waiting_, now - looking_since_us_);
}

void Reactor::wait_ended() {
  if (!waiting_) return;
  waiting_.reset();
  poll_budget_.waited(recent_us() - waiting_since_us_, waiting_since_us_ - working_since_us_,
                      answered_);
  working_since_us_ = recent_us();
  answered_ = 0;
}

uint32_t Reactor::operations_in_flight() const {
  return uring_->operations_in_flight() + lanes_->in_flight();
}

Wait Reactor::wait_kind() const {
  const uint32_t in_flight = operations_in_flight();
  if (in_flight == 0) return Wait::guest;
  return in_flight <= kFewInFlight ? Wait::target : Wait::crowd;
}

void Reactor::doze() {
  if (!all_can_sleep()) return uring_->submit();
  active_.clear();
  const uint64_t deadline = next_deadline();
  update_counters();
  const uint64_t before_ns = recent_ns_;
  lanes_->ring();
  const bool sleeps = deadline > recent_us() && lanes_->arm();
  if (sleeps) {
    counters_.sleeps.add();
    sleep_until(deadline);
    counters_.wakeups.add();
  }
  complete();
  run_lanes();
  run_later();
  if (sleeps) {
    if (recent_ns_ == before_ns) read_clock();  // else whoever was answered has had it read
    wait_ended();
  }
  if (deadline != kNever) run_deadlines();
}

// A far deadline, as the age of grants is, becomes one alarm of the ring for all sleeps until then.
void Reactor::sleep_until(uint64_t deadline_us) {
  const uint64_t now = recent_us();
  if (deadline_us < alarm_us_) {
    if (deadline_us - now < kFarUs) return uring_->sleep(deadline_us - now);
    alarm_us_ = deadline_us;
    uring_->wake_at(alarm_us_);
  }
  uring_->sleep(kNever);
}

bool Reactor::all_can_sleep() {
  bool all = true;
  for (Poller* poller : active_) all &= poller->try_sleep();
  if (all)
    for (Poller* poller : active_) poller->active_ = false;
  return all;
}

bool Reactor::run_mailbox() {
  mailbox_pending_ = false;
  const std::vector<Mailbox::Command> commands = mailbox_.take();
  for (const Mailbox::Command& command : commands) command();
  return !commands.empty();
}

// What workers have done: as complete() for io_uring.
bool Reactor::run_lanes() {
  if (lanes_->in_flight() == 0) return false;
  const bool any = run_operations(lanes_->collect());
  if (any) run_finishes();
  return any;
}

void Reactor::listen_to_lanes() {
  uring_->read_when_readable(lanes_->bell(), std::as_writable_bytes(std::span(&bell_, 1)),
                             Wakeup::lanes);
}

bool Reactor::take_events() {
  if (event_watch_->lost()) {
    for (const auto& [port, poller] : by_port_) {
      poller->on_event();
      activate(*poller);
    }
  }
  const std::span<const Port> ports = event_watch_->take();
  for (const Port port : ports) {
    const auto found = by_port_.find(port);
    if (found == by_port_.end()) continue;  // fired just before it was unbound
    found->second->on_event();
    activate(*found->second);
  }
  return !ports.empty();
}

// Reaps into lists first and runs them afterwards: nothing re-enters the reaping loop.
bool Reactor::complete() {
  const Uring::Reaped reaped = uring_->reap();
  event_watch_->note(reaped);
  if (reaped.alarm) alarm_us_ = kNever;
  mailbox_pending_ |= reaped.mailbox;
  if (reaped.lanes) listen_to_lanes();
  bool worked = reaped.event_channel || reaped.mailbox || reaped.lanes;
  worked |= run_operations(reaped.operations);
  worked |= run_finishes();
  return worked;
}

bool Reactor::run_operations(Operation* list) {
  const bool any = list != nullptr;
  while (list) {
    Operation& operation = *list;
    list = operation.next;
    if (operation.channel->advance(operation, operation.part_result))
      operation.sink->finished(operation);
  }
  return any;
}

// Counts as work: what finished may let somebody start who would agree to sleep now.
bool Reactor::run_finishes() {
  if (dirty_.empty()) return false;
  // finish() may mark again what completes at once: that is for the next round.
  finishing_.swap(dirty_);
  for (Poller* poller : finishing_) poller->dirty_ = false;
  for (Poller* poller : finishing_) poller->finish();
  finishing_.clear();
  activate_blocked();
  return true;
}

void Reactor::activate_blocked() {
  for (Poller* poller : blocked_) {
    poller->blocked_ = false;
    activate(*poller);
  }
  blocked_.clear();
}

void Reactor::look_at_targets() {
  for (Poller* poller : all_) poller->look_at_target();
}

void Reactor::run_later() {
  if (later_.empty()) return;
  std::vector<Mailbox::Command> commands;
  commands.swap(later_);
  for (const Mailbox::Command& command : commands) command();
}

void Reactor::wake_by(Poller& poller, uint64_t at_us) {
  poller.deadline_us_ = std::min(poller.deadline_us_, at_us);
  earliest_us_ = std::min(earliest_us_, at_us);
}

uint64_t Reactor::next_deadline() const { return has_work() ? 0 : earliest_us_; }

// All are looked at only when one may be due, and not at every sleep.
void Reactor::run_deadlines() {
  const uint64_t now = recent_us();
  if (earliest_us_ > now) return;
  earliest_us_ = kNever;
  for (Poller* poller : all_) {
    if (poller->deadline_us_ <= now) {
      poller->deadline_us_ = kNever;
      poller->on_deadline(now);
    }
    earliest_us_ = std::min(earliest_us_, poller->deadline_us_);
  }
}

void Reactor::update_counters() {
  counters_.uring_enters.set(uring_->counters().enter_calls);
  counters_.submissions.set(uring_->counters().submissions);
  counters_.bounce_bytes.set(bounce_->used_bytes());
}

void Reactor::assert_on_thread() const { RD_ASSERT(::pthread_equal(::pthread_self(), thread_)); }

void Reactor::unmask(Port local_port) { event_watch_->unmask(local_port); }

int Reactor::bind(Domid domid, Port remote_port, Port& local_port) {
  const int result = events_->bind(domid, remote_port, local_port);
  if (result == 0) counters_.bound_ports.add();
  return result;
}

void Reactor::unbind(Port local_port) {
  events_->unbind(local_port);
  counters_.bound_ports.set(counters_.bound_ports.get() - 1);
}

void Reactor::add(Poller& poller, Port local_port) {
  by_port_.emplace(local_port, &poller);
  add(poller);
}

void Reactor::remove(Poller& poller, Port local_port) {
  by_port_.erase(local_port);
  remove(poller);
}

void Reactor::add(Poller& poller) {
  assert_on_thread();
  all_.push_back(&poller);
  activate(poller);
  update_counters();
}

void Reactor::remove(Poller& poller) {
  assert_on_thread();
  for (auto* list : {&all_, &active_, &dirty_, &blocked_}) std::erase(*list, &poller);
  update_counters();
}

void Reactor::activate(Poller& poller) {
  poller.vain_rounds_ = 0;
  if (poller.active_) return;
  poller.active_ = true;
  active_.push_back(&poller);
}

void Reactor::mark_dirty(Poller& poller) {
  if (poller.dirty_) return;
  poller.dirty_ = true;
  dirty_.push_back(&poller);
}

void Reactor::mark_blocked(Poller& poller) {
  if (poller.blocked_) return;
  poller.blocked_ = true;
  blocked_.push_back(&poller);
}

}  // namespace ringdisk
