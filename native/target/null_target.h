// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "target/target.h"

namespace ringdisk {

// Forgets writes and reads zeros, at once: what remains is the cost of everything else.
class NullTarget final : public Target {
 public:
  explicit NullTarget(const TargetSpec& spec);

  const Capabilities& capabilities() const override { return capabilities_; }
  void refresh() override {}
  std::unique_ptr<TargetChannel> open_channel(Uring& uring, Offload& offload) override;

 private:
  Capabilities capabilities_;
};

}  // namespace ringdisk
