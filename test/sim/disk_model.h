// SPDX-License-Identifier: Apache-2.0
// What a disk may legally contain, sector by sector, as its guest can tell: the answered writes
// that no later write has replaced for certain, and every write still in flight. A read between two
// answers must find one of them, whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace ringdisk::sim {

class DiskModel {
 public:
  explicit DiskModel(uint64_t sectors);  // all zeros

  // A guest's view of time: 1, 2, 3... Whatever ends before something begins is before it.
  using Time = uint64_t;

  // `id` names the write and gives its content: fill_sector(seed = id). Not 0, not used twice.
  void write_begins(uint64_t id, uint64_t sector, uint64_t count);
  void write_ends(uint64_t id, uint64_t sector, uint64_t count);
  // A discard is a hint: its sectors may become zero or not. `id` as above.
  void discard_begins(uint64_t id, uint64_t sector, uint64_t count);
  void discard_ends(uint64_t id, uint64_t sector, uint64_t count);
  Time read_begins();
  // `bytes` were read from `sector`. Returns what is wrong with them, or an empty string. A sector
  // that nobody was writing is from now on known to be what it was seen to be.
  std::string read_ends(Time begun, uint64_t sector, std::span<const std::byte> bytes);

 private:
  static constexpr Time kInFlight = UINT64_MAX;
  struct Version {
    uint64_t id;
    bool zero;  // a discard, or the beginning
    bool hint;  // a discard: replaces nothing
    Time begun;
    Time ended;
  };
  using Versions = std::vector<Version>;

  void begin(uint64_t id, bool discard, uint64_t sector, uint64_t count);
  void end(uint64_t id, uint64_t sector, uint64_t count);
  static bool replaced(const Versions& versions, const Version& version, Time at);
  std::string check_sector(Time begun, uint64_t sector, std::span<const std::byte> bytes);

  Time now_ = 0;
  std::vector<Versions> sectors_;
  std::multiset<Time> reads_;  // in flight, by when they began
};

}  // namespace ringdisk::sim
