// SPDX-License-Identifier: Apache-2.0
#include "peer.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "platform/loopback/domain.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

class LoopbackPeer final : public Peer {
 public:
  Domid domid() const override { return guest_.domid(); }
  Platform& platform() override { return *platform_; }
  GrantedPage grant(bool readonly) override {
    const uint32_t page = guest_.allocate_page();
    return {guest_.grant(page, readonly), guest_.page(page)};
  }
  void revoke(GrantRef gref) override { guest_.revoke(gref); }
  Port open_port() override { return guest_.open_port(); }
  void close_port(Port port) override { guest_.close_port(port); }
  void notify(Port port) override { guest_.notify(port); }
  bool wait(Port port, int timeout_ms) override { return guest_.wait(port, timeout_ms); }

 private:
  TempMachine machine_;
  LoopbackDomain guest_{machine_.dir(), 7, 512};
  std::unique_ptr<Platform> platform_ = make_loopback_platform(machine_.dir());
};

}  // namespace

std::unique_ptr<Peer> make_peer() {
  const char* name = std::getenv("RINGDISK_TEST_PLATFORM");
  const std::string platform = name ? name : "loopback";
  if (platform == "loopback") return std::make_unique<LoopbackPeer>();
  if (platform == "xen") return make_xen_peer();
  throw std::invalid_argument("RINGDISK_TEST_PLATFORM is \"" + platform + "\": loopback or xen");
}

}  // namespace ringdisk
