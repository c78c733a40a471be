// SPDX-License-Identifier: Apache-2.0
#include "target/block_target.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "base/units.h"
#include "io/uring.h"
#include "target/open_path.h"
#include "target/probe.h"

namespace ringdisk {

namespace {

// A predecessor that was killed may not have ended yet.
Fd open_exclusively(const TargetSpec& spec) {
  constexpr int kTries = 250;
  for (int i = 1;; i++) {
    try {
      return open_path(spec, O_EXCL);
    } catch (const std::system_error& error) {
      if (error.code().value() != EBUSY || !spec.take_over || i == kTries) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

Fd claim_block_device(const TargetSpec& spec) {
  if (spec.read_only) return {};
  try {
    return open_exclusively(spec);
  } catch (const std::system_error& error) {
    if (error.code().value() != EBUSY) throw;
    throw std::system_error(
        EBUSY, std::generic_category(),
        "cannot open " + spec.path +
            " for writing: something else holds it (a mount, swap, a volume group, a RAID, or "
            "another backend; lsblk and lsof tell which)");
  }
}

BlockTarget::BlockTarget(const TargetSpec& spec) : path_(spec.path) {
  const struct stat status = stat_target(spec, S_IFBLK);
  fd_ = open_path(spec, O_DIRECT);
  fence_ = std::make_unique<Fence>(fd_.get(), path_, spec.read_only, spec.take_over);
  claim_ = claim_block_device(spec);
  refuse_read_only(spec);
  capabilities_.capacity = measure();
  if (capabilities_.capacity == 0) {
    throw std::invalid_argument("cannot serve " + path_ + ": the device has no medium or no size");
  }
  capabilities_.read_only = spec.read_only;
  capabilities_.direct = true;
  probe_blocks();
  if (!spec.read_only) probe_discard();
  probe_queue(status.st_rdev, capabilities_);
}

void BlockTarget::refuse_read_only(const TargetSpec& spec) const {
  int device_read_only = 0;
  if (spec.read_only || ioctl(fd_.get(), BLKROGET, &device_read_only) != 0) return;
  if (device_read_only == 0) return;
  throw std::system_error(EROFS, std::generic_category(),
                          "cannot open " + spec.path + " for writing: the device is read-only");
}

void BlockTarget::probe_blocks() {
  int logical = 0;
  unsigned physical = 0;
  if (ioctl(fd_.get(), BLKSSZGET, &logical) != 0 || ioctl(fd_.get(), BLKPBSZGET, &physical) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot read the blocks of " + path_);
  }
  if (logical != kSectorBytes && logical != kIoAlignmentMax) {
    throw std::invalid_argument("cannot serve " + path_ + ": its logical block is " +
                                std::to_string(logical) + " bytes; 512 and 4096 are supported");
  }
  capabilities_.io_alignment = static_cast<uint32_t>(logical);
  capabilities_.physical_block = physical;
}

void BlockTarget::probe_discard() {
  capabilities_.secure_discard = takes_discard_ioctl(fd_.get(), BLKSECDISCARD);
  capabilities_.discard = takes_discard_ioctl(fd_.get(), BLKDISCARD);
  if (!capabilities_.discard) return;
  discard_method_ =
      takes_discard_command(fd_.get()) ? DiscardMethod::command : DiscardMethod::offload;
}

uint64_t BlockTarget::measure() const { return block_device_bytes(fd_.get(), path_); }

std::unique_ptr<TargetChannel> BlockTarget::open_channel(Uring& uring, Offload& offload) {
  return std::make_unique<FdChannel>(fd_.get(), discard_method_, capabilities_.secure_discard,
                                     uring, offload);
}

}  // namespace ringdisk
