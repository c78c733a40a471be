// SPDX-License-Identifier: Apache-2.0
// A grant table that is only bookkeeping and a little memory, with refusals on demand: for code
// whose dealings with the platform are to be watched call by call.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "base/assert.h"
#include "platform/platform.h"

namespace ringdisk {

class FakeGrants final : public GrantTable {
 public:
  ~FakeGrants() override { RD_ASSERT(mappings_.empty()); }

  int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
          GrantMapping& mapping) override {
    map_calls++;
    domids.insert(domid);
    for (const GrantRef gref : grefs)
      if (refused.contains(gref)) return -EINVAL;
    const uint64_t handle = next_handle_++;
    Mapped& mapped = mappings_[handle];
    mapped.bytes.resize(grefs.size() * kPageBytes);
    mapped.grefs.assign(grefs.begin(), grefs.end());
    mapped.writable = writable;
    for (size_t i = 0; i < grefs.size(); i++)
      std::memcpy(mapped.bytes.data() + i * kPageBytes, page(grefs[i]).data(), kPageBytes);
    mapping = {mapped.bytes.data(), static_cast<uint32_t>(grefs.size()), handle};
    mapped_pages += mapping.page_count;
    return 0;
  }

  // What was written into a mapping reaches the pages when it goes.
  void unmap(GrantMapping& mapping) override {
    unmap_calls++;
    const auto found = mappings_.find(mapping.handle);
    RD_ASSERT(found != mappings_.end());
    const Mapped& mapped = found->second;
    for (size_t i = 0; mapped.writable && i < mapped.grefs.size(); i++)
      std::memcpy(page(mapped.grefs[i]).data(), mapped.bytes.data() + i * kPageBytes, kPageBytes);
    mapped_pages -= mapping.page_count;
    unmapped.insert(mapped.grefs.begin(), mapped.grefs.end());
    mappings_.erase(found);
    mapping = {};
  }

  void copy(std::span<GrantCopy> batch) override {
    copy_calls.push_back(batch.size());
    for (GrantCopy& one : batch) {
      RD_ASSERT(one.offset + one.length <= kPageBytes);
      one.ok = !refused.contains(one.gref);
      if (!one.ok) continue;
      std::byte* remote = page(one.gref).data() + one.offset;
      std::memcpy(one.to_guest ? remote : one.local, one.to_guest ? one.local : remote, one.length);
    }
  }

  std::vector<std::byte>& page(GrantRef gref) {
    std::vector<std::byte>& bytes = pages_[gref];
    bytes.resize(kPageBytes);
    return bytes;
  }
  bool is_mapped(GrantRef gref) const {
    for (const auto& [handle, mapped] : mappings_)
      for (const GrantRef one : mapped.grefs)
        if (one == gref) return true;
    return false;
  }

  std::set<GrantRef> refused;
  std::set<GrantRef> unmapped;
  std::set<Domid> domids;
  std::vector<size_t> copy_calls;
  int map_calls = 0;
  int unmap_calls = 0;
  size_t mapped_pages = 0;

 private:
  struct Mapped {
    std::vector<std::byte> bytes;
    std::vector<GrantRef> grefs;
    bool writable;
  };
  std::map<uint64_t, Mapped> mappings_;
  std::map<GrantRef, std::vector<std::byte>> pages_;
  uint64_t next_handle_ = 1;
};

}  // namespace ringdisk
