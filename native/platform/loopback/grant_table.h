// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "platform/loopback/machine.h"
#include "platform/platform.h"

namespace ringdisk {

// The backend's grants on the loopback machine. Every use is counted in the guest's own grants
// file, where the guest sees what is still mapped. One thread; other tables may serve the same
// guest.
class LoopbackGrantTable final : public GrantTable {
 public:
  explicit LoopbackGrantTable(std::string machine_dir);
  ~LoopbackGrantTable() override;  // gives back whatever is still mapped, as gntdev does

  // -EINVAL: never granted, or granting a page the guest does not have; -EACCES: granted for
  // reading only; -ENOENT: no such guest.
  int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
          GrantMapping& mapping) override;
  void unmap(GrantMapping& mapping) override;
  void copy(std::span<GrantCopy> batch) override;

 private:
  class Guest;
  struct Mapped {
    Domid domid;
    std::byte* address;
    std::vector<GrantRef> grefs;
  };

  int open_guest(Domid domid, Guest*& guest);
  void release(const Mapped& mapped);
  // A guest's files stay open only while something of it is mapped: a later guest of the same domid
  // must never be taken for the one before.
  void close_if_idle(Domid domid);

  std::string machine_dir_;
  std::unordered_map<Domid, std::unique_ptr<Guest>> guests_;
  std::unordered_map<uint64_t, Mapped> mappings_;  // by GrantMapping::handle
  uint64_t next_handle_ = 1;
};

}  // namespace ringdisk
