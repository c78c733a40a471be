// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of UNIX sockets and tells nobody by the sockets themselves: whether a
// server has closed its end of a connection, or has only shut it down. A server that has closed
// its end is through with all requests of that connection; see ARCHITECTURE.md, NBD client.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace ringdisk {

class UnixPeers {
 public:
  // Without UNIX_DIAG in the kernel, or the right to ask: knows nothing. Any thread may ask.
  UnixPeers();

  // The number of the socket at the other end, for is_open(); 0: it cannot be told.
  uint32_t peer_of(int socket) const;
  // Whether a process has this socket open. True also where it cannot be told for now.
  bool is_open(uint32_t number) const;
  // Whether a server that listens at `path`, or did, has a connection open whose client is gone.
  // Nothing: it cannot be told.
  std::optional<bool> serves_the_dead(const std::string& path) const;

 private:
  struct Found;
  static bool ask(uint32_t number, bool all, Found& found);

  bool knows_ = true;
};

}  // namespace ringdisk
