// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/event_channels.h"

#include <sys/epoll.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace ringdisk {

namespace {
// How many ports one system call hands over.
constexpr size_t kTakeMax = 64;

int arm(int epoll, int operation, int fifo, Port local_port) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u32 = local_port;
  return ::epoll_ctl(epoll, operation, fifo, &event);
}
}  // namespace

LoopbackEventChannels::LoopbackEventChannels(std::string machine_dir)
    : machine_dir_(std::move(machine_dir)),
      epoll_(Fd::checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

LoopbackEventChannels::Channel& LoopbackEventChannels::channel(Port local_port) {
  const auto found = channels_.find(local_port);
  RD_ASSERT(found != channels_.end());
  return found->second;
}

int LoopbackEventChannels::bind(Domid domid, Port remote_port, Port& local_port) {
  const std::string dir = domain_dir(machine_dir_, domid);
  Channel opened;
  opened.from_guest = open_fifo(to_backend_path(dir, remote_port));
  if (!opened.from_guest.valid()) return -errno;
  opened.to_guest = open_fifo(to_frontend_path(dir, remote_port));
  if (!opened.to_guest.valid()) return -errno;
  // The lock is the binding: the kernel drops it when this process dies, as Xen unbinds the port.
  if (::flock(opened.from_guest.get(), LOCK_EX | LOCK_NB) != 0) return -EINVAL;
  const Port port = next_port_++;
  if (arm(epoll_.get(), EPOLL_CTL_ADD, opened.from_guest.get(), port) != 0) return -errno;
  raise_event(opened.from_guest.get());
  channels_.emplace(port, std::move(opened));
  local_port = port;
  return 0;
}

void LoopbackEventChannels::unbind(Port local_port) {
  // Closing the FIFO takes it out of the epoll set: nobody else has this open file.
  channel(local_port);
  channels_.erase(local_port);
}

void LoopbackEventChannels::notify(Port local_port) {
  raise_event(channel(local_port).to_guest.get());
}

size_t LoopbackEventChannels::take_pending(std::span<Port> ports) {
  epoll_event events[kTakeMax];
  size_t taken = 0;
  while (taken < ports.size()) {
    const size_t wanted = std::min(ports.size() - taken, kTakeMax);
    const int found = ::epoll_wait(epoll_.get(), events, static_cast<int>(wanted), 0);
    for (int i = 0; i < found; i++) {
      const Port port = events[i].data.u32;
      drain_events(channel(port).from_guest.get());
      ports[taken++] = port;
    }
    if (found < static_cast<int>(wanted)) break;
  }
  return taken;
}

void LoopbackEventChannels::unmask(Port local_port) {
  RD_ASSERT(arm(epoll_.get(), EPOLL_CTL_MOD, channel(local_port).from_guest.get(), local_port) ==
            0);
}

}  // namespace ringdisk
