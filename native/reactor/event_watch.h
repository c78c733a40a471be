// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "io/uring.h"
#include "metrics/counters.h"
#include "platform/platform.h"
#include "protocol/limits.h"

namespace ringdisk {

// How a reactor hears of events. Its io_uring watches the platform's file, and where that file is
// read and written in ports (Xen's is) does both with the calls that are made anyway: in a PV dom0
// a system call is dear. Where it is not, the platform is called.
class EventWatch {
 public:
  // All three must live longer; the ring must be gone before this is: it reads into it.
  EventWatch(EventChannels& events, Uring& uring, ReactorCounters& counters);

  void note(const Uring::Reaped& reaped);
  // Whether take() has something to do.
  bool pending() const { return pending_; }
  // Since the last take(): any port may have fired, and stays masked until it is unmasked.
  bool lost() const { return lost_; }
  // Pending ports, masked from now on; good until the next call. More may be left, or fire while
  // these are looked at: that is reported anew.
  std::span<const Port> take();
  // On Xen with the ring's next submission.
  void unmask(Port port);

 private:
  void read_next();
  std::span<const Port> take_read();

  EventChannels& events_;
  Uring& uring_;
  ReactorCounters& counters_;
  PortCalls* const calls_;  // null: the ring does both
  bool pending_ = false;
  bool lost_ = false;
  uint32_t read_bytes_ = 0;
  std::array<Port, kPendingPorts> read_;  // the kernel's, while it is not pending
  std::array<Port, kPendingPorts> taken_;
};

}  // namespace ringdisk
