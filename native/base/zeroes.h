// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ringdisk {

// A discard that promises what is read afterwards.
enum class Zeroes : uint8_t {
  no,        // it does not
  may_free,  // zeroes; the space may be given back
  keep,      // zeroes; the space stays taken
  fast,      // as may_free, but not where they would have to be written
};

}  // namespace ringdisk
