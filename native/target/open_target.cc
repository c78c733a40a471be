// SPDX-License-Identifier: Apache-2.0
#include <stdexcept>

#include "target/block_target.h"
#include "target/file_target.h"
#include "target/null_target.h"
#include "target/nvme_target.h"
#include "target/target.h"

namespace ringdisk {

std::unique_ptr<Target> open_target(const TargetSpec& spec) {
  if (spec.kind == "file") return std::make_unique<FileTarget>(spec);
  if (spec.kind == "block") return std::make_unique<BlockTarget>(spec);
  if (spec.kind == "nvme") return std::make_unique<NvmeTarget>(spec);
  if (spec.kind == "null") return std::make_unique<NullTarget>(spec);
  throw std::invalid_argument("there is no target kind \"" + spec.kind +
                              "\": file, block, nvme and null are known");
}

}  // namespace ringdisk
