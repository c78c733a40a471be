// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "target/nvme_command.h"
#include "target/target.h"

namespace ringdisk {

// One NVMe namespace through its generic character device (/dev/ng0n1). Its block device is claimed
// for as long as the target is open, because passthrough itself respects no mount.
class NvmeTarget final : public Target {
 public:
  explicit NvmeTarget(const TargetSpec& spec);

  uint64_t measure() const override;
  std::unique_ptr<TargetChannel> open_channel(Uring& uring, Offload& offload) override;

 private:
  void claim(const TargetSpec& spec, dev_t generic);
  void identify();
  NvmeNamespaceIdentity identify_namespace() const;

  std::string path_;
  Fd fd_;
  Fd claim_;
  dev_t block_device_ = 0;
  NvmeGeometry geometry_;
};

}  // namespace ringdisk
