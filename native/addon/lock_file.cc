// SPDX-License-Identifier: Apache-2.0
#include "addon/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <system_error>

#include "base/fd.h"

namespace ringdisk {

bool lock_file(const std::string& path) {
  Fd file = Fd::checked(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600),
                        "cannot open the lock file " + path);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
    file.release();  // the kernel closes it when the process is gone
    return true;
  }
  if (errno == EWOULDBLOCK) return false;
  throw std::system_error(errno, std::generic_category(), "cannot lock " + path);
}

}  // namespace ringdisk
