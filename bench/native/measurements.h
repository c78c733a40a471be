// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "settings.h"

namespace ringdisk::bench {

// Each measures once and prints a line. All throw std::exception when it could not.

// The physical limit of the protocol: the loopback machine's frontend against a loop that only
// copies each request out of the ring and each response in.
void measure_limit(const Settings& settings);

// ringdisk's whole data path against the same frontend.
void measure_ringdisk(const Settings& settings);

// An io_uring loop of the same depth and flags on the same target, and nothing else.
void measure_uring(const Settings& settings);

}  // namespace ringdisk::bench
