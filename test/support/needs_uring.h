// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <cstring>

#include "io/uring.h"

namespace ringdisk {

// Whether this test can run here; prints why when not. Probed once: probing makes rings.
inline bool has_io_uring() {
  static const UringFeatures features = probe_uring();
  if (!features.available) MESSAGE("skipped: no io_uring: ", std::strerror(features.error));
  return features.available;
}

}  // namespace ringdisk
