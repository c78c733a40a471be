// SPDX-License-Identifier: Apache-2.0
// Accepts on a UNIX socket, by a reactor's io_uring.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "base/fd.h"
#include "io/operation.h"
#include "io/uring.h"
#include "nbd/completions.h"

namespace ringdisk::nbd {

// Whose members may connect, besides our own user.
using Group = std::optional<gid_t>;

// Binds it with mode 0600, or 0660 for a group, in the place of one that nobody listens to any
// more. Throws std::system_error with a sentence.
Fd listen_on(const std::string& path, const Group& group = std::nullopt);

// Used on its reactor's thread.
class Listener final : private OperationSink {
 public:
  // `over` is called once, when it accepts no more: after the socket was shut down, or when
  // accepting fails for good.
  Listener(Uring& uring, int socket, std::function<void(Fd)> accepted, std::function<void()> over);

 private:
  void finished(Operation& operation) override;
  void accept();

  Uring& uring_;
  const int socket_;
  const std::function<void(Fd)> accepted_;
  const std::function<void()> over_;
  Completions completions_;
  Operation operation_{};
};

}  // namespace ringdisk::nbd
