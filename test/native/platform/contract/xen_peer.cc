// SPDX-License-Identifier: Apache-2.0
// A domain may grant to itself and bind its own ports, so dom0 alone can play both sides.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <system_error>

#include "base/fd.h"
#include "peer.h"
#include "platform/xen/uapi.h"
#include "platform/xen/xen_platform.h"

#include <xen/gntalloc.h>

namespace ringdisk {
namespace {

constexpr Domid kSelf = 0;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

class XenPeer final : public Peer {
 public:
  ~XenPeer() override {
    while (!grants_.empty()) revoke(grants_.begin()->first);
  }
  Domid domid() const override { return kSelf; }
  Platform& platform() override { return *platform_; }

  GrantedPage grant(bool readonly) override {
    ioctl_gntalloc_alloc_gref request{};
    request.domid = kSelf;
    request.flags = static_cast<uint16_t>(readonly ? 0 : GNTALLOC_FLAG_WRITABLE);
    request.count = 1;
    if (::ioctl(gntalloc_.get(), IOCTL_GNTALLOC_ALLOC_GREF, &request) != 0) fail("gntalloc");
    void* memory = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, gntalloc_.get(),
                          static_cast<off_t>(request.index));
    if (memory == MAP_FAILED) fail("mmap of gntalloc");
    grants_[request.gref_ids[0]] = {request.index, memory};
    return {request.gref_ids[0], static_cast<std::byte*>(memory)};
  }

  void revoke(GrantRef gref) override {
    const Grant grant = grants_.at(gref);
    grants_.erase(gref);
    ::munmap(grant.memory, kPageBytes);
    ioctl_gntalloc_dealloc_gref request{grant.index, 1};
    if (::ioctl(gntalloc_.get(), IOCTL_GNTALLOC_DEALLOC_GREF, &request) != 0) fail("dealloc");
  }

  Port open_port() override {
    ioctl_evtchn_bind_unbound_port request{kSelf};
    const int port = ::ioctl(evtchn_.get(), IOCTL_EVTCHN_BIND_UNBOUND_PORT, &request);
    if (port < 0) fail("bind_unbound_port");
    return static_cast<Port>(port);
  }
  void close_port(Port port) override {
    ioctl_evtchn_unbind request{port};
    if (::ioctl(evtchn_.get(), IOCTL_EVTCHN_UNBIND, &request) != 0) fail("unbind");
  }
  void notify(Port port) override {
    ioctl_evtchn_notify request{port};
    if (::ioctl(evtchn_.get(), IOCTL_EVTCHN_NOTIFY, &request) != 0) fail("notify");
  }
  // One port at a time has events in these tests.
  bool wait(Port port, int timeout_ms) override {
    pollfd one{evtchn_.get(), POLLIN, 0};
    if (::poll(&one, 1, timeout_ms) != 1) return false;
    Port pending = 0;
    if (::read(evtchn_.get(), &pending, sizeof(pending)) != sizeof(pending)) fail("read");
    if (::write(evtchn_.get(), &pending, sizeof(pending)) != sizeof(pending)) fail("write");
    return pending == port;
  }

 private:
  struct Grant {
    uint64_t index;  // the kernel's handle
    void* memory;
  };
  Fd gntalloc_ = Fd::checked(::open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC), "gntalloc");
  Fd evtchn_ = Fd::checked(::open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC), "evtchn");
  std::map<GrantRef, Grant> grants_;
  std::unique_ptr<Platform> platform_ = make_xen_platform();
};

}  // namespace

std::unique_ptr<Peer> make_xen_peer() { return std::make_unique<XenPeer>(); }

}  // namespace ringdisk
