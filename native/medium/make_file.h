// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "medium/medium.h"

namespace ringdisk {

// If there is nothing at the path, or a file of which no more was made than its name: a file of
// create_bytes zero bytes that is there after the host's death, too. Nothing is made where it is
// opened read only. Returns what the file begins with. Throws std::system_error.
decltype(MediumFacts::head) make_file(const MediumSpec& spec);

}  // namespace ringdisk
