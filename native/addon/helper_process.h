// SPDX-License-Identifier: Apache-2.0
// This process becomes another program that serves an image. In two steps: what can fail for the
// environment's reasons comes first, while there is somebody to be told.
#pragma once

#include <string>
#include <vector>

namespace ringdisk {

// Standard error becomes the FIFO `log`, made anew (0600). It is opened for both ways: so a write
// to it never fails for want of a reader, and never waits for one either (O_NONBLOCK: what does not
// fit is lost). Whoever reads it is told of this process's end by the kernel. False while another
// process has the lock, which stays this one's over execve. Throws std::system_error.
bool begin_helper(const std::string& log, const std::string& lock);

struct HelperProgram {
  std::string program;
  // The first is its name.
  std::vector<std::string> arguments;
  // Files and folders.
  std::vector<std::string> readable;
  std::vector<std::string> writable;
  // Where it makes its socket and its process file.
  std::string folder;
  // It may connect by TCP.
  bool network = false;
};

// Becomes the program, without capabilities, without a way to gain one, and, where the kernel has
// Landlock, without access to any file but the system's programs and what is named here. Standard
// output becomes the log, too, standard input nothing. Only returns by throwing std::system_error.
[[noreturn]] void become_helper(const HelperProgram& helper);

}  // namespace ringdisk
