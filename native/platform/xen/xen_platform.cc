// SPDX-License-Identifier: Apache-2.0
#include "platform/xen/xen_platform.h"

#include "platform/xen/event_channels.h"
#include "platform/xen/grant_table.h"

namespace ringdisk {
namespace {

class XenPlatform final : public Platform {
 public:
  std::unique_ptr<GrantTable> open_grant_table() override {
    return std::make_unique<XenGrantTable>();
  }
  std::unique_ptr<EventChannels> open_event_channels() override {
    return std::make_unique<XenEventChannels>();
  }
};

}  // namespace

std::unique_ptr<Platform> make_xen_platform() { return std::make_unique<XenPlatform>(); }

}  // namespace ringdisk
