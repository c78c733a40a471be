// SPDX-License-Identifier: Apache-2.0
// What the contract of a platform needs of the other side: somebody who grants pages and opens
// event channels. On the loopback machine that is one of its domains, on Xen this very domain.
#pragma once

#include <cstddef>
#include <memory>

#include "base/units.h"
#include "platform/platform.h"

namespace ringdisk {

class Peer {
 public:
  virtual ~Peer() = default;
  virtual Domid domid() const = 0;
  virtual Platform& platform() = 0;

  struct GrantedPage {
    GrantRef gref;
    std::byte* memory;
  };
  // A zeroed page, granted for reading and writing or for reading only.
  virtual GrantedPage grant(bool readonly) = 0;
  GrantedPage grant() { return grant(false); }
  // Takes a grant back; one that is in use stays valid for who uses it.
  virtual void revoke(GrantRef gref) = 0;

  virtual Port open_port() = 0;
  virtual void close_port(Port port) = 0;
  virtual void notify(Port port) = 0;
  // Takes an event, waiting for it; false after `timeout_ms`.
  virtual bool wait(Port port, int timeout_ms) = 0;
};

// The platform that RINGDISK_TEST_PLATFORM names: "loopback" (the default) or "xen", which needs
// root, gntdev, gntalloc and evtchn.
std::unique_ptr<Peer> make_peer();

std::unique_ptr<Peer> make_xen_peer();

}  // namespace ringdisk
