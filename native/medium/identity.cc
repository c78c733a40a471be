// SPDX-License-Identifier: Apache-2.0
// Which medium is open, in a text that another process finds again: a path says where it was.
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <fcntl.h>
#include <array>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "base/fd.h"
#include "medium/probe.h"

namespace ringdisk {
namespace {

std::string number_of(dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

std::optional<std::string> read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line.empty()) return std::nullopt;
  return line;
}

// Without a device of its own a file system's number changes with each mount.
std::optional<std::string> file_system_without_device(int fd, uint32_t device_major) {
  struct statfs status{};
  if (device_major != 0 || ::fstatfs(fd, &status) != 0) return std::nullopt;
  uint64_t id = 0;
  static_assert(sizeof status.f_fsid == sizeof id);
  std::memcpy(&id, &status.f_fsid, sizeof id);
  return "file system " + std::to_string(id);
}

std::string born(const struct statx& status) {
  if ((status.stx_mask & STATX_BTIME) == 0) return "";
  return " born " + std::to_string(status.stx_btime.tv_sec) + "." +
         std::to_string(status.stx_btime.tv_nsec);
}

// A loop device is what lies behind it, whoever set it up and when. An inode's number alone is
// given again. A file that has no name any more cannot be asked when it was made; then it is this
// set-up of the device, and no other.
std::optional<std::string> loop_backing(int fd, const std::string& folder) {
  loop_info64 info{};
  if (fd < 0 || ::ioctl(fd, LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  std::string place = number_of(info.lo_device);
  std::string since = " sequence " + read_line(folder + "/diskseq").value_or("?");
  const std::string path = read_line(folder + "/loop/backing_file").value_or("");
  const Fd file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct statx status{};
  if (file.valid() &&
      ::statx(file.get(), "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) == 0 &&
      status.stx_ino == info.lo_inode) {
    place = file_system_without_device(file.get(), status.stx_dev_major).value_or(place);
    if (const std::string text = born(status); !text.empty()) since = text;
  }
  return "loop " + place + " inode " + std::to_string(info.lo_inode) + " from " +
         std::to_string(info.lo_offset) + " to " + std::to_string(info.lo_sizelimit) + since;
}

// OpenZFS's own question for a volume's name.
std::optional<std::string> zvol_name(int fd) {
  std::array<char, 256> name{};
  constexpr unsigned long kBlkZName = _IOR(0x12, 125, char[256]);
  if (fd < 0 || ::ioctl(fd, kBlkZName, name.data()) != 0) return std::nullopt;
  return "zvol " + std::string(name.data(), ::strnlen(name.data(), name.size()));
}

std::optional<std::string> lasting_name(const std::string& folder) {
  if (const auto uuid = read_line(folder + "/dm/uuid")) return "dm " + *uuid;
  if (const auto wwid = read_line(folder + "/wwid")) return "wwid " + *wwid;
  if (const auto wwid = read_line(folder + "/device/wwid")) return "wwid " + *wwid;
  return std::nullopt;
}

}  // namespace

std::string identity_of_device(int fd, dev_t device) {
  const std::string folder = "/sys/dev/block/" + number_of(device);
  std::string part;
  std::string disk = folder;
  if (const auto number = read_line(folder + "/partition")) {
    part = "partition " + *number + " at " + read_line(folder + "/start").value_or("?") + " of ";
    disk = folder + "/..";
  }
  if (const auto name = lasting_name(disk)) return part + *name;
  // A mapped device hands such questions on to what lies below it, as long as its table lets it.
  if (part.empty() && !read_line(folder + "/dm/name")) {
    if (const auto backing = loop_backing(fd, folder)) return *backing;
    if (const auto name = zvol_name(fd)) return *name;
  }
  // Good until the device goes: another one, or the same one again, has another number.
  return part + "device " + number_of(device) + " sequence " +
         read_line(disk + "/diskseq").value_or("?");
}

std::string identity_of_file(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0) return "";
  const std::string device =
      "device " + std::to_string(status.stx_dev_major) + ":" + std::to_string(status.stx_dev_minor);
  const std::string where = file_system_without_device(fd, status.stx_dev_major).value_or(device);
  return "file " + where + " inode " + std::to_string(status.stx_ino) + born(status);
}

FoundMedium find_medium(const std::string& path) {
  const std::string failed = "cannot open " + path;
  // Nothing is opened that is not asked about: to open a device may do something.
  const Fd place = Fd::checked(::open(path.c_str(), O_PATH | O_CLOEXEC), failed);
  struct stat status{};
  if (::fstat(place.get(), &status) != 0)
    throw std::system_error(errno, std::generic_category(), failed);
  if (S_ISREG(status.st_mode)) return {false, identity_of_file(place.get())};
  if (!S_ISBLK(status.st_mode))
    throw std::invalid_argument(path + " is neither a file nor a block device");
  const std::string opened = "/proc/self/fd/" + std::to_string(place.get());
  const Fd device = Fd::checked(::open(opened.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC), failed);
  return {true, identity_of_device(device.get(), status.st_rdev)};
}

}  // namespace ringdisk
