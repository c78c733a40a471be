// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <optional>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "eventually.h"

namespace ringdisk {

// The event that ends `command`; waits (bounded) for it. Events of no command, and of others, go
// to `others` where it is given.
inline EngineEvent result_of(Engine& engine, uint32_t command,
                             std::vector<EngineEvent>* others = nullptr) {
  std::optional<EngineEvent> result;
  REQUIRE(eventually([&] {
    for (EngineEvent& event : engine.collect()) {
      if (event.command == command)
        result = std::move(event);
      else if (others)
        others->push_back(std::move(event));
    }
    return result.has_value();
  }));
  return *result;
}

}  // namespace ringdisk
