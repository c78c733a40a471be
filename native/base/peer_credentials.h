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
// Of the same, its first or a further one. Throws std::system_error.
bool peer_is_in_group(int fd, gid_t group);

}  // namespace ringdisk
