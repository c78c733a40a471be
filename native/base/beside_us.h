// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ringdisk {

// The path of a file beside this code: beside the addon, or beside the program where there is none.
std::string beside_us(const std::string& name);

}  // namespace ringdisk
