// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "base/fd.h"

namespace ringdisk {

// Commands from other threads to a reactor: bounded, in order, never on the data path.
class Mailbox {
 public:
  using Command = std::function<void()>;

  Mailbox();  // throws std::system_error
  // Readable while commands wait; the reactor's io_uring watches it.
  int fd() const { return eventfd_.get(); }

  // Any thread. False when full: the caller reports it as an error of its own command.
  bool post(Command command);
  // Any thread: over the bound. For commands that are bounded by what earlier ones made.
  void post_always(Command command);
  // Any thread: wakes the reactor without a command.
  void wake();
  // Reactor: everything that waits, in order.
  std::vector<Command> take();

 private:
  Fd eventfd_;
  std::mutex mutex_;
  std::vector<Command> commands_;
};

}  // namespace ringdisk
