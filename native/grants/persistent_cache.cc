// SPDX-License-Identifier: Apache-2.0
#include "grants/persistent_cache.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <random>

#include "base/assert.h"

namespace ringdisk {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr size_t kTableEntriesMin = 64;

// Multiply-shift hashing needs an odd number, and one that guests do not know: with a known one
// they would choose grant references whose look-ups are a walk through all the others.
uint64_t secret_multiplier() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;
}

// For a table of so many entries, a power of two.
int home_shift(size_t entries) { return std::countl_zero(entries) + 1; }

}  // namespace

uint32_t grant_maps_max() {
  constexpr uint32_t kKernelsDefault = 65530;
  uint32_t all = kKernelsDefault;
  std::ifstream("/proc/sys/vm/max_map_count") >> all;
  return (all == 0 ? kKernelsDefault : all) / 2;
}

PersistentCache::PersistentCache(GrantTable& grants, GrantBudget& budget, Domid domid,
                                 uint32_t pages_max)
    : grants_(grants),
      budget_(budget),
      domid_(domid),
      pages_max_(pages_max),
      table_(kTableEntriesMin, Entry{0, kNone, 0}),
      multiplier_(secret_multiplier()),
      home_shift_(home_shift(kTableEntriesMin)),
      oldest_(kNone),
      newest_(kNone) {}

PersistentCache::~PersistentCache() {
  while (oldest_ != kNone) evict(oldest_);
}

// The place where the search for `gref` begins: the upper bits of the product, as many as needed.
size_t PersistentCache::home(GrantRef gref) const { return gref * multiplier_ >> home_shift_; }

// So that the table is at most half full with so many more: an idle disk's is small.
void PersistentCache::make_table_room(size_t more) {
  if (2 * (entries_ + more) <= table_.size()) return;
  std::vector<Entry> old(std::bit_ceil(2 * (entries_ + more)), Entry{0, kNone, 0});
  old.swap(table_);
  home_shift_ = home_shift(table_.size());
  for (const Entry& entry : old)
    if (entry.extent != kNone) find(entry.gref) = entry;
}

PersistentCache::Entry& PersistentCache::find(GrantRef gref) {
  const size_t mask = table_.size() - 1;
  size_t place = home(gref);
  while (table_[place].extent != kNone && table_[place].gref != gref) place = (place + 1) & mask;
  return table_[place];
}

// Closes the gap behind it, so that find() never needs tombstones.
void PersistentCache::erase(GrantRef gref) {
  const size_t mask = table_.size() - 1;
  size_t gap = static_cast<size_t>(&find(gref) - table_.data());
  if (table_[gap].extent == kNone) return;
  for (size_t place = (gap + 1) & mask; table_[place].extent != kNone; place = (place + 1) & mask) {
    const size_t wanted = home(table_[place].gref);
    if (((place - wanted) & mask) < ((place - gap) & mask)) continue;
    table_[gap] = table_[place];
    gap = place;
  }
  table_[gap].extent = kNone;
  entries_--;
}

std::byte* PersistentCache::address(const Entry& entry) const {
  return extents_[entry.extent].mapping.address + size_t{entry.page} * kPageBytes;
}

bool PersistentCache::reach(std::span<const Segment> segments, std::span<std::byte*> pages) {
  make_table_room(segments.size());
  uint32_t fresh = kNone;
  for (size_t i = 0; i < segments.size(); i++) {
    Entry& entry = find(segments[i].gref);
    if (entry.extent == kNone) {
      if (fresh == kNone) fresh = new_extent();
      std::vector<GrantRef>& grefs = extents_[fresh].grefs;
      entry = {segments[i].gref, fresh, static_cast<uint32_t>(grefs.size())};
      grefs.push_back(segments[i].gref);
      entries_++;
    } else if (entry.extent != fresh) {
      touch(entry.extent);  // room for the missing ones is not made at this one's cost
      pages[i] = address(entry);
    }
  }
  if (fresh == kNone) return true;
  if (!map_missing(fresh)) {
    forget(fresh);
    return false;
  }
  for (size_t i = 0; i < segments.size(); i++) pages[i] = address(find(segments[i].gref));
  return true;
}

uint32_t PersistentCache::new_extent() {
  if (!free_extents_.empty()) {
    const uint32_t extent = free_extents_.back();
    free_extents_.pop_back();
    return extent;
  }
  extents_.emplace_back();
  return static_cast<uint32_t>(extents_.size() - 1);
}

bool PersistentCache::map_missing(uint32_t index) {
  Extent& extent = extents_[index];
  const auto pages = static_cast<uint32_t>(extent.grefs.size());
  if (!make_room(pages)) return false;
  // Writable always: the frontend reuses its persistent grants for reads and writes alike.
  if (grants_.map(domid_, extent.grefs, true, extent.mapping) != 0) {
    budget_.release(pages);
    return false;
  }
  maps_ += pages;
  mapped_pages_ += pages;
  link_newest(index);
  return true;
}

// Reserves `pages` of both budgets, evicting what has not been used lately, oldest first.
bool PersistentCache::make_room(uint32_t pages) {
  if (pages > pages_max_) return false;
  while (mapped_pages_ + pages > pages_max_ || !budget_.reserve(pages))
    if (!evict_unused(0)) return false;
  return true;
}

bool PersistentCache::age(uint32_t most) {
  for (uint32_t i = 0; i < most; i++) {
    if (evict_unused(1)) continue;
    age_++;
    return true;
  }
  return false;
}

bool PersistentCache::unmap_some(uint32_t most) {
  for (uint32_t i = 0; i < most && oldest_ != kNone; i++) evict(oldest_);
  return oldest_ == kNone;
}

// The extent used longest ago, unless that was in this age of the cache or in the `ages` before it.
bool PersistentCache::evict_unused(uint32_t ages) {
  if (oldest_ == kNone || age_ - extents_[oldest_].used_in <= ages) return false;
  evict(oldest_);
  return true;
}

void PersistentCache::evict(uint32_t index) {
  Extent& extent = extents_[index];
  grants_.unmap(extent.mapping);
  const auto pages = static_cast<uint32_t>(extent.grefs.size());
  unmaps_ += pages;
  mapped_pages_ -= pages;
  budget_.release(pages);
  unlink(index);
  forget(index);
}

// Takes an extent's grefs out of the table and keeps its memory for the next one.
void PersistentCache::forget(uint32_t index) {
  for (const GrantRef gref : extents_[index].grefs) erase(gref);
  extents_[index].grefs.clear();
  extents_[index].mapping = {};
  free_extents_.push_back(index);
}

void PersistentCache::touch(uint32_t extent) {
  extents_[extent].used_in = age_;
  if (extent == newest_) return;
  unlink(extent);
  link_newest(extent);
}

void PersistentCache::link_newest(uint32_t index) {
  extents_[index].used_in = age_;
  extents_[index].previous = newest_;
  extents_[index].next = kNone;
  (newest_ == kNone ? oldest_ : extents_[newest_].next) = index;
  newest_ = index;
}

void PersistentCache::unlink(uint32_t index) {
  const Extent& extent = extents_[index];
  (extent.previous == kNone ? oldest_ : extents_[extent.previous].next) = extent.next;
  (extent.next == kNone ? newest_ : extents_[extent.next].previous) = extent.previous;
}

}  // namespace ringdisk
