// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace ringdisk {

// Starts this process anew, by execve(2), as `program` with `arguments` (the first is its name) and
// without any privilege: no capability in any set, the bounding set included, and no way to gain
// one (no_new_privs). Only returns when the process is so already. The memory lock limit is lifted
// before, where that is still allowed.
//
// Capabilities belong to threads, and io_uring instances keep those of their makers. Node has a
// dozen threads before any of our code runs, one of which takes no signal: execve leaves none of
// them, nor anything else that could remember. Throws std::system_error.
void restart_unprivileged(const std::string& program, const std::vector<std::string>& arguments);

// No capability in any set of this thread, for good: what it becomes by execve has none. Throws
// std::system_error.
void give_up_privileges();

// execve(2); `arguments` begin with the program's name. Throws std::system_error.
[[noreturn]] void execute(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace ringdisk
