// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "target/fd_channel.h"
#include "target/target.h"

namespace ringdisk {

// Any block device: disks, partitions, logical volumes, zvols, DRBD. Claimed exclusively when
// writable, so that nothing mounted, no volume group and no second daemon shares it.
class BlockTarget final : public Target {
 public:
  explicit BlockTarget(const TargetSpec& spec);

  uint64_t measure() const override;
  std::unique_ptr<TargetChannel> open_channel(Uring& uring, Offload& offload) override;

 private:
  void refuse_read_only(const TargetSpec& spec) const;
  void probe_blocks();
  void probe_discard();

  std::string path_;
  Fd fd_;     // for I/O; its lock is the fence
  Fd claim_;  // for nothing but O_EXCL: no I/O keeps it open when we die
  DiscardMethod discard_method_ = DiscardMethod::none;
};

// Claims the block device (O_EXCL) if it is to be written; nothing is sent through what is
// returned. Throws std::system_error; when the device is in use the message says who to look for.
Fd claim_block_device(const TargetSpec& spec);

}  // namespace ringdisk
