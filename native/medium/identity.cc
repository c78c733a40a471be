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

// When the file behind a loop device was made: an inode's number alone is given again. A file that
// has no name any more cannot be asked; then it is this set-up of the device, and no other.
std::string loop_born(const std::string& folder, const loop_info64& info) {
  struct statx status{};
  const std::string path = read_line(folder + "/loop/backing_file").value_or("");
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &status) == 0 &&
      status.stx_ino == info.lo_inode && (status.stx_mask & STATX_BTIME) != 0)
    return " born " + std::to_string(status.stx_btime.tv_sec) + "." +
           std::to_string(status.stx_btime.tv_nsec);
  return " sequence " + read_line(folder + "/diskseq").value_or("?");
}

// A loop device is what lies behind it, whoever set it up and when.
std::optional<std::string> loop_backing(int fd, const std::string& folder) {
  loop_info64 info{};
  if (fd < 0 || ::ioctl(fd, LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  return "loop " + number_of(info.lo_device) + " inode " + std::to_string(info.lo_inode) +
         " from " + std::to_string(info.lo_offset) + " to " + std::to_string(info.lo_sizelimit) +
         loop_born(folder, info);
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
  std::string where =
      "device " + std::to_string(status.stx_dev_major) + ":" + std::to_string(status.stx_dev_minor);
  struct statfs fs{};
  // Without a device of its own a file system's number changes with each mount.
  if (status.stx_dev_major == 0 && ::fstatfs(fd, &fs) == 0) {
    uint64_t id = 0;
    static_assert(sizeof fs.f_fsid == sizeof id);
    std::memcpy(&id, &fs.f_fsid, sizeof id);
    where = "file system " + std::to_string(id);
  }
  std::string text = "file " + where + " inode " + std::to_string(status.stx_ino);
  if ((status.stx_mask & STATX_BTIME) != 0)
    text += " born " + std::to_string(status.stx_btime.tv_sec) + "." +
            std::to_string(status.stx_btime.tv_nsec);
  return text;
}

}  // namespace ringdisk
