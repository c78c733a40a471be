// SPDX-License-Identifier: Apache-2.0
#include "base/peer_credentials.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

namespace ringdisk {
namespace {

constexpr size_t kGroupsUsual = 64;

}  // namespace

PeerCredentials peer_credentials(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot tell who has connected");
  }
  return {peer.pid, peer.uid};
}

bool peer_is_in_group(int fd, gid_t group) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.gid == group)
    return true;
  std::vector<gid_t> further(kGroupsUsual);
  size = static_cast<socklen_t>(further.size() * sizeof(gid_t));
  int failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, further.data(), &size);
  if (failed != 0 && errno == ERANGE) {
    further.resize(size / sizeof(gid_t));
    failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, further.data(), &size);
  }
  if (failed != 0)
    throw std::system_error(errno, std::generic_category(), "cannot tell the groups of a peer");
  further.resize(size / sizeof(gid_t));
  return std::ranges::find(further, group) != further.end();
}

}  // namespace ringdisk
