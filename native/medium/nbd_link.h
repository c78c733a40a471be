// SPDX-License-Identifier: Apache-2.0
// One connection to an NBD server over a UNIX socket, up to the end of the negotiation. Waits, but
// never longer than kNbdPatienceMs.
#pragma once

#include <string>

#include "base/fd.h"
#include "protocol/nbd_handshake.h"

namespace ringdisk {

inline constexpr int kNbdPatienceMs = 5000;

struct NbdAddress {
  std::string socket;
  std::string name;  // of the export

  // "/run/nbd.sock:exportname=disk", or without an export's name. Throws std::invalid_argument.
  static NbdAddress parse(const std::string& text);
};

struct NbdLink {
  Fd socket;
  nbd::ServerFacts facts;
};

// Throws std::system_error or std::invalid_argument with a sentence for the operator.
NbdLink connect_nbd(const NbdAddress& address);
// Which process listens: equal numbers, the same one. 0: it cannot be told.
uint64_t server_of(int socket);
// Whether the other end has said or done anything since.
bool is_quiet(int socket);

}  // namespace ringdisk
