// SPDX-License-Identifier: Apache-2.0
// The channel of everything that is one file descriptor to the kernel: regular files and block
// devices. The owner of the descriptor outlives the channel.
#pragma once

#include <cstdint>

#include "target/target.h"

namespace ringdisk {

// How the two kinds of discard are carried out.
enum class DiscardMethod : uint8_t {
  none,
  punch_hole,  // regular file
  command,     // block device, through io_uring
  offload,     // block device, by ioctl on the helper thread
};

class FdChannel final : public TargetChannel {
 public:
  FdChannel(int fd, DiscardMethod discard, bool secure_discard, Uring& uring, Offload& offload);

  bool start(Operation& operation) override;
  bool advance(Operation& operation, int32_t part_result) override;

 private:
  void submit_part(Operation& operation);
  void submit_transfer(Operation& operation);
  void submit_flush(Operation& operation);
  void submit_discard(Operation& operation);
  DiscardMethod method_for(const Operation& operation) const;

  const int fd_;
  const DiscardMethod discard_;
  const bool secure_discard_;
  Uring& uring_;
  Offload& offload_;
};

}  // namespace ringdisk
