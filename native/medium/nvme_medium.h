// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

#include "medium/medium.h"

namespace ringdisk {

// One NVMe namespace through its generic character device (/dev/ng0n1). Its block device is claimed
// for as long as the target is open, because passthrough itself respects no mount.
class NvmeMedium final : public Medium {
 public:
  explicit NvmeMedium(const MediumSpec& spec);
  NvmeMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd);

  Size measure() const override;

 private:
  void find_block_device(const MediumSpec& spec);
  void identify();
  NvmeNamespaceIdentity identify_namespace() const;

  std::string path_;
  std::string block_path_;
  dev_t block_device_ = 0;
};

}  // namespace ringdisk
