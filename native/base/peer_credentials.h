// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

namespace ringdisk {

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
};

// Who called connect() for the other end of the UNIX socket `fd`, as the kernel noted it then
// (SO_PEERCRED). Throws std::system_error.
PeerCredentials peer_credentials(int fd);

}  // namespace ringdisk
