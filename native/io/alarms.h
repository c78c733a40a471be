// SPDX-License-Identifier: Apache-2.0
// Who wants to be called at a time, of one queue: its engine and its channels. All on the thread of
// the queue's reactor.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"

namespace ringdisk {

class Alarm {
 public:
  virtual ~Alarm() = default;  // where it is set its Alarms must be gone, or go with it
  virtual void on_alarm(uint64_t now_us) = 0;
  bool is_set() const { return at_us_ != kNever; }

 private:
  friend class Alarms;
  uint64_t at_us_ = kNever;
};

class Alarms {
 public:
  // `wake_by` sees to it that run() is called at that time at the latest.
  explicit Alarms(std::function<void(uint64_t at_us)> wake_by);
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

  // Once, instead of what it was set for before; in microseconds of the clock.
  void set(Alarm& alarm, uint64_t at_us);
  void cancel(Alarm& alarm);
  // Calls those that are due. Each may set itself again, and cancel others.
  void run(uint64_t now_us);

 private:
  const std::function<void(uint64_t)> wake_by_;
  std::vector<Alarm*> set_;
};

}  // namespace ringdisk
