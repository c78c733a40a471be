// SPDX-License-Identifier: Apache-2.0
// THE SEAM. Everything that differs between real Xen and the loopback machine is behind these three
// interfaces; nothing outside platform/ knows which one it talks to. One GrantTable and one
// EventChannels per reactor, used only from that reactor's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/units.h"

namespace ringdisk {

// Consecutive local pages backed by granted guest pages. Not an owner: whoever called map() calls
// unmap() exactly once, and not before the kernel has let go of the pages.
struct GrantMapping {
  std::byte* address = nullptr;
  uint32_t page_count = 0;
  uint64_t handle = 0;  // the platform's own name for it
};

// One copy between local memory and one granted page; never crosses the guest's page.
struct GrantCopy {
  std::byte* local;
  GrantRef gref;
  uint16_t offset;  // bytes into the guest's page
  uint16_t length;  // bytes, offset + length <= kPageBytes
  Domid domid;
  bool to_guest;  // direction
  bool ok;        // result, set by copy()
};

class GrantTable {
 public:
  virtual ~GrantTable() = default;
  // Maps all of `grefs` side by side. Returns 0, or -errno with nothing mapped: a gref the guest
  // never granted is an expected error (XSA-361/362/365).
  virtual int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
                  GrantMapping& mapping) = 0;
  virtual void unmap(GrantMapping& mapping) = 0;
  // Copies the whole batch with as few system calls as the platform can; sets `ok` on each.
  virtual void copy(std::span<GrantCopy> batch) = 0;
};

// Taking and unmasking ports where the file of a platform's event channels can't.
class PortCalls {
 public:
  // Takes pending ports, at most `ports.size()`, and fewer only when no more are pending.
  virtual size_t take_pending(std::span<Port> ports) = 0;
  virtual void unmask(Port local_port) = 0;

 protected:
  ~PortCalls() = default;
};

class EventChannels {
 public:
  virtual ~EventChannels() = default;
  // Binds to the guest's `remote_port`. Returns 0 and sets `local_port`, or -errno.
  virtual int bind(Domid domid, Port remote_port, Port& local_port) = 0;
  virtual void unbind(Port local_port) = 0;
  virtual void notify(Port local_port) = 0;
  // Becomes readable when a port is pending. Reading it takes pending ports, each of which stays
  // masked until it is written to it (xen: linux/drivers/xen/evtchn.c); neither blocks. EventWatch
  // does both.
  virtual int fd() const = 0;
  // After reading it has failed for good: events may have been lost, and no port is known to be
  // masked or not.
  virtual void reset() {}
  // Not null where the file can only be watched.
  virtual PortCalls* port_calls() { return nullptr; }
};

class Platform {
 public:
  virtual ~Platform() = default;
  // Both throw std::system_error when the platform is not there (no /dev/xen/gntdev, say).
  virtual std::unique_ptr<GrantTable> open_grant_table() = 0;
  virtual std::unique_ptr<EventChannels> open_event_channels() = 0;
};

}  // namespace ringdisk
