// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "targets/target.h"

namespace ringdisk::nbd {

// What a socket's operations have for a channel: it starts none, and a completion's result is the
// operation's.
class Completions final : public TargetChannel {
 public:
  bool start(Operation&) override { return true; }
  bool advance(Operation& operation, int32_t result) override {
    operation.result = result;
    return true;
  }
};

}  // namespace ringdisk::nbd
