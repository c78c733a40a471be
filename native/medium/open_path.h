// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <string>

#include "base/fd.h"
#include "medium/medium.h"

namespace ringdisk {

// stat() of the target's path before it is opened, because opening the wrong kind of file may have
// effects (a FIFO waits, a tape rewinds). Throws std::system_error when there is nothing, and
// std::invalid_argument saying which kind it is when it is not an `S_IF...` of `expected`.
struct stat stat_target(const MediumSpec& spec, mode_t expected);

// What a file of this mode is, as the rest of a sentence.
std::string kind_of(mode_t mode);

// Opens the target's path as its spec asks, with `extra_flags` added. Throws std::system_error.
Fd open_path(const MediumSpec& spec, int extra_flags);

// As open(), but reads leave the access time alone where we may ask for that: whoever owns the file
// may. Not valid, with errno set, when it can't be opened.
Fd open_noatime(const std::string& path, int flags);

}  // namespace ringdisk
