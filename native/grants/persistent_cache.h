// SPDX-License-Identifier: Apache-2.0
// Grants of one queue that stay mapped between requests. The frontend promised to grant the same
// pages again and again; mapping them once saves two hypercalls per page and request. Bounded twice
// (per queue, and host-wide through GrantBudget), least recently used first out. A page used
// lately is not evicted for another: a guest that goes round more pages than fit would have each of
// them mapped and unmapped in vain.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "platform/platform.h"
#include "protocol/request.h"

namespace ringdisk {

// What is mapped persistently by all queues together. In pages, since Xen's default maptrack holds
// 262 144 for the whole host; and in mappings, since each is a memory map of this process, of which
// vm.max_map_count allows 65 530: without one to spare nothing in the process can allocate any
// more.
class GrantBudget {
 public:
  explicit GrantBudget(uint32_t pages_max, uint32_t maps_max = UINT32_MAX)
      : pages_max_(pages_max), maps_max_(maps_max) {}
  // For one mapping of so many pages.
  bool reserve(uint32_t pages) {
    if (!take(maps_, 1, maps_max_)) return false;
    if (take(pages_, pages, pages_max_)) return true;
    maps_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  void release(uint32_t pages) {
    pages_.fetch_sub(pages, std::memory_order_relaxed);
    maps_.fetch_sub(1, std::memory_order_relaxed);
  }
  uint32_t used() const { return pages_.load(std::memory_order_relaxed); }
  uint32_t maps() const { return maps_.load(std::memory_order_relaxed); }

 private:
  static bool take(std::atomic<uint32_t>& from, uint32_t count, uint32_t max) {
    uint32_t used = from.load(std::memory_order_relaxed);
    while (used + count <= max)
      if (from.compare_exchange_weak(used, used + count, std::memory_order_relaxed)) return true;
    return false;
  }

  const uint32_t pages_max_;
  const uint32_t maps_max_;
  std::atomic<uint32_t> pages_{0};
  std::atomic<uint32_t> maps_{0};
};

// Half of what the kernel allows this process; the default's where it does not tell.
uint32_t grant_maps_max();

class PersistentCache {
 public:
  PersistentCache(GrantTable& grants, GrantBudget& budget, Domid domid, uint32_t pages_max);
  ~PersistentCache();  // unmaps everything
  PersistentCache(const PersistentCache&) = delete;
  PersistentCache& operator=(const PersistentCache&) = delete;

  // Finds every segment's page, mapping what is missing in one call. The addresses are good until
  // the next call of anything here. False when the budget is used up by pages used lately or a
  // grant can't be mapped: copy such a request by grant.
  bool reach(std::span<const Segment> segments, std::span<std::byte*> pages);

  // Unmaps what no request has used since the call before last: called every so often, it gives an
  // idle guest's share of the budget back. At most `most` mappings at a time; false: call it again
  // soon, there are more, and no age has passed.
  bool age(uint32_t most);
  // Unmaps so many, whoever uses them. True: nothing is mapped any more.
  bool unmap_some(uint32_t most);

  uint32_t mapped_pages() const { return mapped_pages_; }
  uint64_t maps() const { return maps_; }
  uint64_t unmaps() const { return unmaps_; }

 private:
  struct Entry {
    GrantRef gref;
    uint32_t extent;  // kNone: empty place
    uint32_t page;    // within the extent
  };
  // What one map() call made: it can only be unmapped whole.
  struct Extent {
    GrantMapping mapping;
    uint32_t used_in = 0;     // the age of the cache when last used
    uint32_t previous, next;  // least recently used order
    std::vector<GrantRef> grefs;
  };

  size_t home(GrantRef gref) const;
  void make_table_room(size_t more);
  Entry& find(GrantRef gref);
  std::byte* address(const Entry& entry) const;
  void erase(GrantRef gref);
  uint32_t new_extent();
  bool map_missing(uint32_t extent);
  bool make_room(uint32_t pages);
  bool evict_unused(uint32_t ages);
  void evict(uint32_t extent);
  void forget(uint32_t extent);
  void touch(uint32_t extent);
  void link_newest(uint32_t extent);
  void unlink(uint32_t extent);

  GrantTable& grants_;
  GrantBudget& budget_;
  const Domid domid_;
  const uint32_t pages_max_;
  std::vector<Entry> table_;  // open addressing, at most half full
  size_t entries_ = 0;
  const uint64_t multiplier_;
  int home_shift_;
  std::vector<Extent> extents_;
  std::vector<uint32_t> free_extents_;
  uint32_t oldest_, newest_;
  uint32_t age_ = 0;
  uint32_t mapped_pages_ = 0;
  uint64_t maps_ = 0;
  uint64_t unmaps_ = 0;
};

}  // namespace ringdisk
