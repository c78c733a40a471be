// SPDX-License-Identifier: Apache-2.0
#include "platform/xen/event_channels.h"

#include <fcntl.h>

#include <cerrno>

#include "base/assert.h"
#include "platform/xen/uapi.h"

namespace ringdisk {

XenEventChannels::XenEventChannels()
    : evtchn_(Fd::checked(::open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK),
                          "cannot open /dev/xen/evtchn")) {}

int XenEventChannels::bind(Domid domid, Port remote_port, Port& local_port) {
  ioctl_evtchn_bind_interdomain request{domid, remote_port};
  const int port = ::ioctl(evtchn_.get(), IOCTL_EVTCHN_BIND_INTERDOMAIN, &request);
  if (port < 0) return -errno;
  local_port = static_cast<Port>(port);
  return 0;
}

void XenEventChannels::unbind(Port local_port) {
  ioctl_evtchn_unbind request{local_port};
  // Fails only for a port that is not ours.
  RD_ASSERT(::ioctl(evtchn_.get(), IOCTL_EVTCHN_UNBIND, &request) == 0);
}

void XenEventChannels::notify(Port local_port) {
  ioctl_evtchn_notify request{local_port};
  // A guest that is gone, or has reset its ports, can't be notified and need not be.
  [[maybe_unused]] const int result = ::ioctl(evtchn_.get(), IOCTL_EVTCHN_NOTIFY, &request);
}

// The ring of pending ports overflowed (EFBIG), which lasts until this is called.
void XenEventChannels::reset() {
  [[maybe_unused]] const int result = ::ioctl(evtchn_.get(), IOCTL_EVTCHN_RESET);
}

}  // namespace ringdisk
