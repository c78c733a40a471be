// SPDX-License-Identifier: Apache-2.0
#include "target/file_target.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <stdexcept>

#include "base/units.h"
#include "target/fd_channel.h"
#include "target/open_path.h"
#include "target/probe.h"

namespace ringdisk {

FileTarget::FileTarget(const TargetSpec& spec) : path_(spec.path) {
  const struct stat status = stat_target(spec, S_IFREG);
  fd_ = open_path(spec, 0);
  open_direct(spec);
  fence_ = std::make_unique<Fence>(fd_.get(), path_, spec.read_only, spec.take_over);
  capabilities_.capacity = measure();
  if (capabilities_.capacity == 0) {
    throw std::invalid_argument("cannot serve " + path_ + ": it is smaller than one block of " +
                                std::to_string(capabilities_.io_alignment) + " bytes");
  }
  capabilities_.read_only = spec.read_only;
  capabilities_.physical_block = kPageBytes;
  capabilities_.discard = !spec.read_only && takes_punch_hole(fd_.get());
  probe_queue(status.st_dev, capabilities_);
  // Not the disk's granularity but the file system's: it frees whole blocks.
  if (capabilities_.discard) {
    const auto block = static_cast<uint32_t>(status.st_blksize);
    capabilities_.discard_granularity = std::max(block, capabilities_.io_alignment);
    capabilities_.discard_alignment = 0;
  }
}

void FileTarget::open_direct(const TargetSpec& spec) {
  const int mode = spec.read_only ? O_RDONLY : O_RDWR;
  Fd direct = open_noatime(path_, mode | O_DIRECT);
  if (!direct.valid()) return;
  const std::optional<uint32_t> alignment = probe_direct_io(direct.get());
  if (!alignment) return;
  capabilities_.direct = true;
  capabilities_.io_alignment = *alignment;
  fd_ = std::move(direct);
}

uint64_t FileTarget::measure() const {
  struct stat status{};
  if (fstat(fd_.get(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot read the size of " + path_);
  }
  // Whole blocks only: what lies behind the last one can't be reached without making the file
  // longer.
  const uint64_t block = capabilities_.io_alignment;
  return static_cast<uint64_t>(status.st_size) / block * block;
}

std::unique_ptr<TargetChannel> FileTarget::open_channel(Uring& uring, Offload& offload) {
  const auto discard = capabilities_.discard ? DiscardMethod::punch_hole : DiscardMethod::none;
  return std::make_unique<FdChannel>(fd_.get(), discard, capabilities_.secure_discard, uring,
                                     offload);
}

}  // namespace ringdisk
