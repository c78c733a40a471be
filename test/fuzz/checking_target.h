// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "protocol/validate.h"
#include "targets/target.h"

namespace ringdisk::fuzz {

// A target that carries nothing out, but insists on what every target relies on, and touches every
// byte of the memory it is given. What is to change must have been marked in its bitmaps.
class CheckingTarget final : public Target {
 public:
  static constexpr uint64_t kBytes = 1u << 20;

  CheckingTarget(uint32_t io_alignment, bool read_only);
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override;
};

}  // namespace ringdisk::fuzz
