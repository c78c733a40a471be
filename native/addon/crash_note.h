// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ringdisk {

// From now on, a process that crashes (an assertion, a bad access) leaves an empty file at `path`:
// by that its successor tells a crash from a SIGKILL. Throws std::system_error.
void note_crashes(const std::string& path);

}  // namespace ringdisk
