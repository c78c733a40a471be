// SPDX-License-Identifier: Apache-2.0
#include "base/peer_credentials.h"

#include <sys/socket.h>

#include <cerrno>
#include <system_error>

namespace ringdisk {

PeerCredentials peer_credentials(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot tell who has connected");
  }
  return {peer.pid, peer.uid};
}

}  // namespace ringdisk
