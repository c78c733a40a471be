// SPDX-License-Identifier: Apache-2.0
#include "medium/unix_peers.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "base/fd.h"

namespace ringdisk {
namespace {

constexpr size_t kAnswerBytes = 32u << 10;  // the kernel's own for such a list
constexpr int kPatienceMs = 2000;

struct Query {
  nlmsghdr header{};
  unix_diag_req request{};
};

// The kernel's numbers of devices in such answers.
uint32_t kernel_number(dev_t device) {
  return static_cast<uint32_t>(major(device)) << 20 | static_cast<uint32_t>(minor(device));
}

}  // namespace

// What is looked for, and what came of it.
struct UnixPeers::Found {
  // Those of a server: by the file, and by the name, which an older one may have had before it.
  bool by_path = false;
  std::string path;
  uint32_t device = 0;
  uint32_t inode = 0;
  bool exists = false;
  uint32_t peer = 0;  // of the last that was found
  bool dead_client = false;

  bool is_its(const rtattr& attribute) const {
    const auto* data = static_cast<const char*>(RTA_DATA(&attribute));
    if (attribute.rta_type == UNIX_DIAG_NAME)
      return path == std::string(data, ::strnlen(data, RTA_PAYLOAD(&attribute)));
    if (attribute.rta_type != UNIX_DIAG_VFS) return false;
    unix_diag_vfs file{};
    std::memcpy(&file, data, sizeof file);
    return file.udiag_vfs_dev == device && file.udiag_vfs_ino == inode;
  }

  void note(const nlmsghdr& header) {
    const auto* message = static_cast<const unix_diag_msg*>(NLMSG_DATA(&header));
    auto left = static_cast<int>(header.nlmsg_len - NLMSG_LENGTH(sizeof *message));
    const auto* attribute = reinterpret_cast<const rtattr*>(message + 1);
    uint32_t its_peer = 0;
    bool matches = !by_path;
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
      if (attribute->rta_type == UNIX_DIAG_PEER)
        std::memcpy(&its_peer, RTA_DATA(attribute), sizeof its_peer);
      matches |= by_path && is_its(*attribute);
    }
    if (!matches) return;
    exists = true;
    peer = its_peer;
    // Without a number of its own it was not accepted yet: nothing was asked over it.
    const bool is_accepted = message->udiag_ino != 0 && message->udiag_state != TCP_LISTEN;
    if (is_accepted && its_peer == 0) dead_client = true;
  }
};

// Of no use where it does not even know two sockets of ours.
UnixPeers::UnixPeers() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return;
  const Fd ends[] = {Fd(pair[0]), Fd(pair[1])};
  knows_ = peer_of(ends[0].get()) != 0;
}

// By a socket of its own: several threads ask, and an answer that comes late is nobody's. False:
// the kernel did not answer, or says that there is none (errno ENOENT).
bool UnixPeers::ask(uint32_t number, bool all, Found& found) {
  const Fd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!socket.valid()) return false;
  Query query;
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | (all ? NLM_F_DUMP : 0));
  query.request.sdiag_family = AF_UNIX;
  query.request.udiag_states = UINT32_MAX;
  query.request.udiag_ino = number;
  query.request.udiag_show = UDIAG_SHOW_PEER | (all ? UDIAG_SHOW_VFS | UDIAG_SHOW_NAME : 0);
  query.request.udiag_cookie[0] = query.request.udiag_cookie[1] = UINT32_MAX;
  if (::send(socket.get(), &query, sizeof query, 0) != sizeof query) return false;
  alignas(nlmsghdr) std::array<std::byte, kAnswerBytes> answer;
  for (;;) {
    pollfd ready{socket.get(), POLLIN, 0};
    if (::poll(&ready, 1, kPatienceMs) <= 0) return false;
    const ssize_t received = ::recv(socket.get(), answer.data(), answer.size(), MSG_DONTWAIT);
    if (received <= 0) return false;
    auto left = static_cast<uint32_t>(received);
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
    for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return true;
      if (header->nlmsg_type == NLMSG_ERROR) {
        errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        return false;
      }
      found.note(*header);
      if (!all) return true;
    }
  }
}

uint32_t UnixPeers::peer_of(int socket) const {
  struct stat status{};
  if (!knows_ || ::fstat(socket, &status) != 0) return 0;
  Found found;
  ask(static_cast<uint32_t>(status.st_ino), false, found);
  return found.peer != 0 && is_open(found.peer) ? found.peer : 0;
}

bool UnixPeers::is_open(uint32_t number) const {
  Found found;
  errno = 0;
  if (!knows_ || number == 0) return false;
  return ask(number, false, found) || errno != ENOENT;
}

std::optional<bool> UnixPeers::serves_the_dead(const std::string& path) const {
  struct stat status{};
  if (!knows_) return std::nullopt;
  Found found;
  found.by_path = true;
  found.path = path;
  if (::stat(path.c_str(), &status) == 0) {
    found.device = kernel_number(status.st_dev);
    found.inode = static_cast<uint32_t>(status.st_ino);
  }
  if (!ask(0, true, found)) return true;
  // Not even who listens: its file system has other numbers for the kernel than for us.
  if (!found.exists) return std::nullopt;
  return found.dead_client;
}

}  // namespace ringdisk
