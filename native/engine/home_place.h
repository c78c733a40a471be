// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/alarms.h"
#include "io/bounce_share.h"
#include "metrics/counters.h"
#include "reactor/poller.h"
#include "reactor/reactor.h"
#include "targets/target.h"

namespace ringdisk {

// Where a home lives, which does what several queues ask of it: on a reactor, as one who is never
// polled.
class HomePlace final : private Poller {
 public:
  // `depth`: of the channels that it has. On the reactor's thread; throws std::system_error.
  HomePlace(Reactor& reactor, uint32_t depth);
  ~HomePlace() override;

  const ChannelContext& context() const { return context_; }
  void give_memory_back() { memory_.give_reserve_back(); }

 private:
  bool poll() override { return false; }
  void finish() override {}
  bool try_sleep() override { return true; }
  void on_deadline(uint64_t now_us) override { alarms_.run(now_us); }
  void on_event() override {}

  Reactor& reactor_;
  BounceShare memory_;
  Alarms alarms_;
  QueueCounters counters_;
  const ChannelContext context_;
};

}  // namespace ringdisk
