// SPDX-License-Identifier: Apache-2.0
#include "medium/open_path.h"

#include <fcntl.h>

#include <stdexcept>

namespace ringdisk {

std::string kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a regular file: use a file target";
    case S_IFBLK:
      return "a block device: use a block target";
    case S_IFCHR:
      return "a character device: only NVMe's generic ones (/dev/ng*) serve, as an nvme target";
    case S_IFDIR:
      return "a directory";
    default:
      return "not something that stores data";
  }
}

struct stat stat_target(const MediumSpec& spec, mode_t expected) {
  struct stat status{};
  if (stat(spec.path.c_str(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(),
                            "cannot open the " + spec.kind + " target " + spec.path);
  }
  if ((status.st_mode & S_IFMT) != expected) {
    throw std::invalid_argument("cannot open the " + spec.kind + " target " + spec.path +
                                ": it is " + kind_of(status.st_mode));
  }
  return status;
}

Fd open_noatime(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NOATIME);
  if (fd >= 0 || errno != EPERM) return Fd(fd);
  return Fd(open(path.c_str(), flags | O_CLOEXEC));
}

Fd open_path(const MediumSpec& spec, int extra_flags) {
  const int mode = spec.read_only ? O_RDONLY : O_RDWR;
  Fd fd = open_noatime(spec.path, mode | extra_flags);
  return Fd::checked(fd.release(), "cannot open the " + spec.kind + " target " + spec.path +
                                       (spec.read_only ? " for reading" : " for writing"));
}

}  // namespace ringdisk
