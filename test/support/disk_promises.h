// SPDX-License-Identifier: Apache-2.0
// What a disk may hold, sector by sector, after what was asked of it: after a daemon's death all
// that was answered, after the host's all that was flushed.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace ringdisk {

class DiskPromises {
 public:
  using Values = std::set<uint64_t>;

  DiskPromises(uint64_t sectors, uint64_t (*first)(uint64_t sector)) : sectors_(sectors) {
    for (uint64_t i = 0; i < sectors; i++) sectors_[i].now = sectors_[i].durable = {first(i)};
  }

  // Returns the write's number, for write_over().
  uint64_t write_begins(uint64_t first, uint64_t count, const Values& values) {
    clock_++;
    for (uint64_t i = first; i < first + count; i++)
      sectors_[i].since.push_back({clock_, UINT64_MAX, values});
    return clock_;
  }
  // `values`: what may be there now; of one that failed the old ones, too.
  void write_over(uint64_t write, uint64_t first, uint64_t count, bool failed) {
    clock_++;
    for (uint64_t i = first; i < first + count; i++) {
      Sector& sector = sectors_[i];
      for (Write& one : sector.since) {
        if (one.number != write) continue;
        one.over = clock_;
        if (failed) one.values.insert(sector.now.begin(), sector.now.end());
        sector.now = one.values;
      }
    }
  }
  uint64_t flush_begins() const { return clock_; }
  void flush_over(uint64_t begun) {
    for (Sector& sector : sectors_) {
      std::erase_if(sector.since, [&](const Write& one) {
        if (one.over > begun) return false;
        sector.durable = one.values;
        return true;
      });
    }
  }
  // Whether that may be read. Then it is so.
  bool read(uint64_t at, uint64_t value) {
    Sector& sector = sectors_[at];
    if (!sector.now.contains(value)) return false;
    sector.now = {value};
    if (sector.since.empty()) sector.durable = {value};
    return true;
  }
  void host_dies() {
    for (Sector& sector : sectors_) {
      for (const Write& one : sector.since)
        sector.durable.insert(one.values.begin(), one.values.end());
      sector.since.clear();
      sector.now = sector.durable;
    }
  }
  const Values& now(uint64_t at) const { return sectors_[at].now; }

 private:
  struct Write {
    uint64_t number;
    uint64_t over;
    Values values;
  };
  struct Sector {
    Values now;
    Values durable;
    std::vector<Write> since;  // not flushed, in order
  };
  std::vector<Sector> sectors_;
  uint64_t clock_ = 0;
};

}  // namespace ringdisk
