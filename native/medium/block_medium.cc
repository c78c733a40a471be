// SPDX-License-Identifier: Apache-2.0
#include "medium/block_medium.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <stdexcept>
#include <utility>

#include "base/units.h"
#include "medium/open_path.h"
#include "medium/probe.h"

namespace ringdisk {

BlockMedium::BlockMedium(const MediumSpec& spec) : path_(spec.path) {
  const struct stat status = stat_target(spec, S_IFBLK);
  fd_ = open_path(spec, O_DIRECT);
  refuse_read_only(spec);
  make_claim(spec);
  Capabilities& capabilities = facts_.capabilities;
  facts_.kind = MediumKind::block;
  capabilities.capacity = measure().capacity;
  if (capabilities.capacity == 0) {
    throw std::invalid_argument("cannot serve " + path_ + ": the device has no medium or no size");
  }
  capabilities.read_only = spec.read_only;
  capabilities.direct = true;
  probe_blocks();
  if (!spec.read_only) probe_discard();
  probe_queue(status.st_rdev, capabilities);
  set_identity(identity_of_device(fd(), status.st_rdev));
  facts_.reads_without_waiting = ringdisk::reads_without_waiting(fd());
  facts_.writes_without_waiting = facts_.reads_without_waiting;
}

BlockMedium::BlockMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd)
    : path_(spec.path) {
  facts_ = facts;
  fd_ = std::move(fd);
  make_claim(spec);
}

// By what is open, not by the path: that may have become another device meanwhile.
void BlockMedium::make_claim(const MediumSpec& spec) {
  claim_ =
      std::make_unique<Claim>(fd(), path_, spec.read_only, "/proc/self/fd/" + std::to_string(fd()));
}

void BlockMedium::refuse_read_only(const MediumSpec& spec) const {
  int device_read_only = 0;
  if (spec.read_only || ::ioctl(fd(), BLKROGET, &device_read_only) != 0) return;
  if (device_read_only == 0) return;
  throw std::system_error(EROFS, std::generic_category(),
                          "cannot open " + spec.path + " for writing: the device is read-only");
}

void BlockMedium::probe_blocks() {
  Capabilities& capabilities = facts_.capabilities;
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(fd(), BLKSSZGET, &logical) != 0 || ::ioctl(fd(), BLKPBSZGET, &physical) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot read the blocks of " + path_);
  }
  const bool in_between = logical == 1024 || logical == 2048;  // CDs and DVDs have 2048
  const bool served = logical == static_cast<int>(kSectorBytes) ||
                      logical == static_cast<int>(kIoAlignmentMax) ||
                      (in_between && capabilities.read_only);
  if (!served) {
    throw std::invalid_argument("cannot serve " + path_ + ": its logical block is " +
                                std::to_string(logical) +
                                " bytes; 512 and 4096 are supported, 1024 and 2048 read-only");
  }
  capabilities.io_alignment = static_cast<uint32_t>(logical);
  capabilities.physical_block = physical;
}

void BlockMedium::probe_discard() {
  facts_.capabilities.secure_discard = takes_discard_ioctl(fd(), BLKSECDISCARD);
  facts_.capabilities.discard = takes_discard_ioctl(fd(), BLKDISCARD);
}

Medium::Size BlockMedium::measure() const {
  const uint64_t bytes = block_device_bytes(fd(), path_);
  return {bytes, bytes};
}

}  // namespace ringdisk
