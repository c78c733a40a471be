// SPDX-License-Identifier: Apache-2.0
#include "medium/probe.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <system_error>

#include "base/units.h"

namespace ringdisk {
namespace {

std::string sysfs_folder(dev_t device) {
  return "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Since Linux 6.6 tmpfs accepts O_DIRECT, but its page cache is all there is.
bool lives_in_page_cache(int fd) {
  struct statfs fs{};
  return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

bool can_read_at(int fd, uint32_t alignment) {
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(alignment, alignment),
                                                      std::free);
  return memory != nullptr && pread(fd, memory.get(), alignment, 0) >= 0;
}

// For kernels and file systems that do not tell: a try shows what they refuse, and the disk below,
// where there is one, gives a lower bound (a try that meets a hole is never refused).
std::optional<uint32_t> probe_direct_by_reading(int fd, dev_t device) {
  const uint64_t disk = read_queue_limit(device, "logical_block_size").value_or(kSectorBytes);
  for (const uint32_t alignment : {kSectorBytes, kIoAlignmentMax}) {
    if (alignment >= disk && can_read_at(fd, alignment)) return alignment;
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint32_t> probe_direct_io(int fd) {
  if (lives_in_page_cache(fd)) return std::nullopt;
#ifdef STATX_DIOALIGN
  struct statx answer{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &answer) == 0 &&
      (answer.stx_mask & STATX_DIOALIGN) != 0) {
    const uint32_t alignment = answer.stx_dio_offset_align;
    if (alignment == 0 || std::max(alignment, answer.stx_dio_mem_align) > kIoAlignmentMax) {
      return std::nullopt;
    }
    return alignment <= kSectorBytes ? kSectorBytes : kIoAlignmentMax;
  }
#endif
  struct stat status{};
  if (fstat(fd, &status) != 0) return std::nullopt;
  return probe_direct_by_reading(fd, status.st_dev);
}

uint64_t block_device_bytes(int fd, const std::string& path) {
  uint64_t bytes = 0;
  if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot read the size of " + path);
  }
  return bytes / kSectorBytes * kSectorBytes;
}

std::optional<uint64_t> read_queue_limit(dev_t device, const std::string& name) {
  const std::string folder = sysfs_folder(device);
  const std::optional<uint64_t> own = read_number(folder + "/queue/" + name);
  return own ? own : read_number(folder + "/../queue/" + name);
}

std::optional<uint64_t> read_device_attribute(dev_t device, const std::string& name) {
  return read_number(sysfs_folder(device) + "/" + name);
}

void probe_queue(dev_t device, Capabilities& capabilities) {
  capabilities.rotational = read_queue_limit(device, "rotational").value_or(0) != 0;
  if (!capabilities.discard) return;
  const uint64_t granularity = read_queue_limit(device, "discard_granularity").value_or(0);
  const uint64_t alignment = read_device_attribute(device, "discard_alignment").value_or(0);
  // A device that says nothing useful discards by its smallest unit; one whose alignment is not
  // below its granularity (the kernel prints -1 for "unknown") has none.
  const bool useful = granularity >= capabilities.io_alignment && granularity <= UINT32_MAX;
  capabilities.discard_granularity =
      useful ? static_cast<uint32_t>(granularity) : capabilities.io_alignment;
  capabilities.discard_alignment =
      alignment < capabilities.discard_granularity ? static_cast<uint32_t>(alignment) : 0;
}

bool takes_discard_ioctl(int fd, unsigned long request) {
  // An odd offset is refused by every kernel, but only after it has looked whether the device can.
  uint64_t range[2] = {1, 0};
  return ioctl(fd, request, range) != 0 && errno == EINVAL;
}

bool takes_punch_hole(int fd) {
  struct stat status{};
  if (fstat(fd, &status) != 0) return false;
  // Beyond the end there is nothing to lose.
  const off_t block = std::max<off_t>(status.st_blksize, kPageBytes);
  const off_t beyond = (status.st_size / block + 1) * block;
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, block) == 0;
}

}  // namespace ringdisk
