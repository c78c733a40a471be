// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace ringdisk {

// What this thread may still do, and whatever it becomes by execve. Paths that are not there are
// passed over.
struct Allowance {
  // Files and folders: to read, and to run programs.
  std::vector<std::string> readable;
  // Files and devices: to read and write.
  std::vector<std::string> writable;
  // To make and remove files and sockets in.
  std::vector<std::string> folders;
  bool network = false;
};

// For good. Needs no_new_privs. Where the kernel has no Landlock nothing happens, and what an older
// one does not know stays allowed. Throws std::system_error.
void confine_to(const Allowance& allowance);

}  // namespace ringdisk
