// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "targets/target.h"

namespace ringdisk {

// Forgets writes and reads zeros, at once: what remains is the cost of everything else.
class NullTarget final : public Target {
 public:
  explicit NullTarget(const TargetSpec& spec);

  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override;
};

}  // namespace ringdisk
