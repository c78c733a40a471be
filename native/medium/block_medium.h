// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "medium/medium.h"

namespace ringdisk {

// Any block device: disks, partitions, logical volumes, zvols, DRBD. Claimed exclusively when
// writable, so that nothing mounted, no volume group and no second daemon shares it.
class BlockMedium final : public Medium {
 public:
  explicit BlockMedium(const MediumSpec& spec);
  BlockMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd);

  Size measure() const override;

 private:
  void make_claim(const MediumSpec& spec);
  void refuse_read_only(const MediumSpec& spec) const;
  void probe_blocks();
  void probe_discard();

  std::string path_;
};

}  // namespace ringdisk
