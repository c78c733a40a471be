// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "platform/loopback/machine.h"
#include "platform/platform.h"

namespace ringdisk {

// The backend's event channels on the loopback machine: one epoll set of FIFOs. A port that fired
// is disarmed (masked) until unmask(); what arrives meanwhile stays in its FIFO (pending while
// masked).
class LoopbackEventChannels final : public EventChannels, public PortCalls {
 public:
  explicit LoopbackEventChannels(std::string machine_dir);

  // -ENOENT: the guest has no such port; -EINVAL: it is bound already, here or in another process.
  // As on Xen a freshly bound port is pending: notifications sent before may have been lost.
  int bind(Domid domid, Port remote_port, Port& local_port) override;
  void unbind(Port local_port) override;
  void notify(Port local_port) override;
  int fd() const override { return epoll_.get(); }
  PortCalls* port_calls() override { return this; }
  size_t take_pending(std::span<Port> ports) override;
  void unmask(Port local_port) override;

 private:
  struct Channel {
    Fd from_guest;
    Fd to_guest;
  };
  Channel& channel(Port local_port);

  std::string machine_dir_;
  Fd epoll_;
  std::map<Port, Channel> channels_;
  Port next_port_ = 1;
};

}  // namespace ringdisk
