// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ringdisk {

// Takes the exclusive lock of the file `path`, made if need be (0600), and keeps it until this
// process ends, however it ends. False while another process, or this one, has it. Throws
// std::system_error.
bool lock_file(const std::string& path);

}  // namespace ringdisk
