// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace ringdisk {

// What a reactor runs. All calls come from the reactor's thread.
class Poller {
 public:
  virtual ~Poller() = default;
  // Looks for work and starts it. Returns whether there was any.
  virtual bool poll() = 0;
  // Called once after completions of this poller's operations were reaped.
  virtual void finish() = 0;
  // Asks to be woken when work arrives. False: work slipped in, go on polling.
  virtual bool try_sleep() = 0;
  // See Reactor::wake_by().
  virtual void on_deadline(uint64_t now_us) = 0;
  // Its event channel fired; it stays masked until the poller unmasks it.
  virtual void on_event() = 0;
  // What its target says of all engines on it has changed.
  virtual void look_at_target() {}

 private:
  friend class Reactor;
  bool active_ = false;            // in the list that is polled
  bool dirty_ = false;             // finish() is due
  bool blocked_ = false;           // poll again when something on this reactor has finished
  uint32_t vain_rounds_ = 0;       // active, and nothing found
  uint64_t deadline_us_ = kNever;  // run even if nothing happens
};

}  // namespace ringdisk
