// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/loopback_platform.h"

#include <fcntl.h>

#include <utility>

#include "base/fd.h"
#include "platform/loopback/event_channels.h"
#include "platform/loopback/grant_table.h"

namespace ringdisk {

namespace {
class LoopbackPlatform final : public Platform {
 public:
  explicit LoopbackPlatform(std::string machine_dir) : machine_dir_(std::move(machine_dir)) {}

  std::unique_ptr<GrantTable> open_grant_table() override {
    return std::make_unique<LoopbackGrantTable>(machine_dir_);
  }
  std::unique_ptr<EventChannels> open_event_channels() override {
    return std::make_unique<LoopbackEventChannels>(machine_dir_);
  }

 private:
  std::string machine_dir_;
};
}  // namespace

std::unique_ptr<Platform> make_loopback_platform(const std::string& machine_dir) {
  Fd::checked(::open(machine_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC),
              "loopback machine " + machine_dir);
  return std::make_unique<LoopbackPlatform>(machine_dir);
}

}  // namespace ringdisk
