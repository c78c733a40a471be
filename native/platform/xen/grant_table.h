// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "base/fd.h"
#include "platform/platform.h"
#include "platform/xen/uapi.h"
#include "protocol/limits.h"

namespace ringdisk {

class XenGrantTable final : public GrantTable {
 public:
  XenGrantTable();  // throws std::system_error
  int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
          GrantMapping& mapping) override;
  void unmap(GrantMapping& mapping) override;
  void copy(std::span<GrantCopy> batch) override;

 private:
  int map_reference(Domid domid, std::span<const GrantRef> grefs, uint64_t& index);
  void release_reference(uint64_t index, uint32_t count);

  Fd gntdev_;
  std::array<gntdev_grant_copy_segment, kCopyBatch> segments_;
};

}  // namespace ringdisk
