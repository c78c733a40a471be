// SPDX-License-Identifier: Apache-2.0
// One thread of the data path: runs pollers (queues) while there is work, sleeps in io_uring when
// all agree there is none. Owns everything its queues use; nothing is shared with other reactors.
#pragma once

#include <pthread.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "grants/persistent_cache.h"
#include "grants/transfer.h"
#include "io/bounce_pool.h"
#include "io/uring.h"
#include "metrics/counters.h"
#include "platform/platform.h"
#include "reactor/event_watch.h"
#include "reactor/mailbox.h"
#include "reactor/poll_budget.h"
#include "reactor/poller.h"
#include "targets/lanes.h"

namespace ringdisk {

struct ReactorOptions {
  unsigned index = 0;
  int cpu = -1;  // pin to it; -1: unpinned
  uint32_t poll_budget_us = 50;
  size_t bounce_pool_bytes = 32u << 20;
};

class Reactor {
 public:
  // Starts the thread; throws std::system_error with what could not be set up.
  Reactor(Platform& platform, const UringFeatures& features, const ReactorOptions& options);
  ~Reactor();  // stops the thread; no poller may be left
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Any thread: runs `command` on the reactor. False when the mailbox is full.
  bool post(Mailbox::Command command) { return mailbox_.post(std::move(command)); }
  // As post(), for what must arrive even when the mailbox is full: one per queue at most.
  void post_always(Mailbox::Command command) { mailbox_.post_always(std::move(command)); }
  const ReactorCounters& counters() const { return counters_; }

  // The rest is for pollers, on the reactor's thread.
  Uring& uring() { return *uring_; }
  Lanes& lanes() { return *lanes_; }
  GrantTable& grants() { return *grants_; }
  EventChannels& events() { return *events_; }
  BouncePool& bounce() { return *bounce_; }
  Transfer& transfer() { return *transfer_; }
  static uint64_t now_ns() { return clock_ns(); }
  static uint64_t now_us() { return now_ns() / 1000; }
  // The clock as last read by read_clock(): about a round ago, or when it woke. In a PV dom0 each
  // reading is a system call, so who can do without an own one does.
  uint64_t recent_ns() const { return recent_ns_; }
  uint64_t recent_us() const { return recent_ns_ / 1000; }
  // So many requests were answered: what looking out for work is measured by.
  void note_answers(uint32_t count) { answered_ += count; }
  uint64_t read_clock() { return recent_ns_ = now_ns(); }

  // Returns 0 and the local port, or -errno.
  int bind(Domid domid, Port remote_port, Port& local_port);
  void unbind(Port local_port);
  void unmask(Port local_port);
  void add(Poller& poller, Port local_port);
  void remove(Poller& poller, Port local_port);
  // One without an event channel.
  void add(Poller& poller);
  void remove(Poller& poller);
  // Runs `command` when this round is over and no poller is running: the place to delete one.
  void later(Mailbox::Command command) { later_.push_back(std::move(command)); }
  // Calls on_deadline() at this time at the latest, once; microseconds of the reactor's clock.
  void wake_by(Poller& poller, uint64_t at_us);
  // Poll this one until it sleeps again.
  void activate(Poller& poller);
  // Call finish() once in this round.
  void mark_dirty(Poller& poller);
  // Poll again after something finished: what it waits for is released by a completion here.
  void mark_blocked(Poller& poller);
  // All of them, at once: something outside this reactor was released.
  void activate_blocked();
  // All pollers look at what their targets say.
  void look_at_targets();

 private:
  static void* entry(void* self);
  void set_up();
  void tear_down();
  [[gnu::noinline]] void run();
  bool has_work() const;
  bool round();
  void doze();
  void sleep_until(uint64_t deadline_us);
  bool run_mailbox();
  bool run_lanes();
  void listen_to_lanes();
  bool take_events();
  bool complete();
  bool run_operations(Operation* list);
  bool run_finishes();
  void run_later();
  bool all_can_sleep();
  bool poll_active();
  bool rests(Poller& poller);
  void run_deadlines();
  uint64_t next_deadline() const;
  void submit(bool worked);
  bool spin_on();
  void wait_ended();
  uint32_t operations_in_flight() const;
  Wait wait_kind() const;
  void update_counters();
  void assert_on_thread() const;

  Platform& platform_;
  const UringFeatures features_;
  const ReactorOptions options_;
  Mailbox mailbox_;
  ReactorCounters counters_;
  pthread_t thread_{};
  std::atomic<bool> stopping_{false};
  std::atomic<int> started_{0};  // 1: running, -1: start_error_ says why not
  std::string start_error_;
  int start_errno_ = 0;

  std::unique_ptr<Uring> uring_;
  std::unique_ptr<Lanes> lanes_;
  std::unique_ptr<GrantTable> grants_;
  std::unique_ptr<EventChannels> events_;
  std::unique_ptr<EventWatch> event_watch_;
  std::unique_ptr<BouncePool> bounce_;
  std::unique_ptr<Transfer> transfer_;

  std::unordered_map<Port, Poller*> by_port_;
  std::vector<Poller*> all_, active_, dirty_, blocked_;
  std::vector<Poller*> finishing_;  // empty but while run_finishes() is at work; keeps its memory
  std::vector<Mailbox::Command> later_;
  uint64_t recent_ns_ = now_ns();
  uint32_t rounds_ = 0;
  uint64_t bell_ = 0;              // what the lanes' eventfd held: the kernel writes it
  uint64_t alarm_us_ = kNever;     // when the ring ends a sleep by itself
  uint64_t earliest_us_ = kNever;  // no poller's deadline is earlier
  bool mailbox_pending_ = true;
  PollBudget poll_budget_;
  std::optional<Wait> waiting_;  // for whom, while there is no work
  uint64_t waiting_since_us_ = 0;
  uint64_t looking_since_us_ = 0;
  uint64_t working_since_us_ = recent_us();
  uint32_t answered_ = 0;      // since then
  bool found_before_ = false;  // by a poller, in the last round
  bool held_back_ = false;     // by the last round: what it reserved
  bool sleeps_next_ = false;   // after the last round, though it found work
};

}  // namespace ringdisk
