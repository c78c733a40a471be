// SPDX-License-Identifier: Apache-2.0
// A guest of a simulation: several queues that read, write, discard and flush at random, and a
// model of what must be read.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "base/units.h"
#include "disk_promises.h"
#include "io/operation.h"
#include "targets/target.h"

namespace ringdisk {

class SimGuest final : private OperationSink {
 public:
  using Kind = Operation::Kind;
  struct Shape {
    uint64_t sectors;
    uint64_t most_sectors;   // of a request
    uint64_t chunk_sectors;  // what it likes to write whole
  };
  static constexpr size_t kQueues = 3;
  static constexpr uint32_t kDepth = 4;
  // What is in a request's memory once it is answered.
  static constexpr uint64_t kReused = 0xdead'dead'dead'dead;
  using Channels = std::function<TargetChannel&(size_t queue)>;

  SimGuest(std::minstd_rand& random, const Shape& shape, uint64_t (*first)(uint64_t),
           Channels channels)
      : random_(random),
        shape_(shape),
        promises_(shape.sectors, first),
        channels_(std::move(channels)) {
    for (auto& queue : slots_)
      for (Slot& slot : queue)
        slot.memory.reset(static_cast<std::byte*>(
            std::aligned_alloc(kPageBytes, shape.most_sectors * kSectorBytes)));
  }

  // `may_write`: what a dead daemon left is carried out first.
  void ask(bool may_write) {
    const size_t queue = below(kQueues);
    if (may_write && !replays_.empty()) {
      if (issue(queue, replays_.back(), true)) replays_.pop_back();
      return;
    }
    Asked asked;
    const uint64_t what = below(100);
    asked.first = below(shape_.sectors);
    asked.count = 1 + below(std::min(shape_.most_sectors, shape_.sectors - asked.first));
    if (below(3) == 0) {
      asked.first = asked.first / shape_.chunk_sectors * shape_.chunk_sectors;
      asked.count = (1 + below(2)) * shape_.chunk_sectors;
    }
    if (asked.first + asked.count > shape_.sectors) return;
    asked.value = next_value_++;
    asked.kind = what < 32   ? Kind::read
                 : what < 65 ? Kind::write
                 : what < 82 ? Kind::discard
                             : Kind::flush;
    if (what >= 70 && what < 75) asked.zeroes = below(2) == 0 ? Zeroes::may_free : Zeroes::keep;
    if (what >= 75 && what < 77) asked.zeroes = Zeroes::fast;
    if (what == 77) asked.secure = true;
    issue(queue, asked, may_write);
  }
  bool is_idle() const { return busy_ == 0; }
  bool has_replays() const { return !replays_.empty(); }

  // What is under way is to be carried out once more, and what comes back is not looked at.
  void die() {
    is_dead_ = true;
    for (const auto& queue : slots_)
      for (const Slot& slot : queue)
        if (slot.busy && slot.asked.writes()) replays_.push_back(slot.asked);
  }
  void live() { is_dead_ = false; }
  void host_dies() {
    replays_.clear();
    promises_.host_dies();
  }
  void check_disk(const std::vector<std::byte>& bytes) {
    const auto* words = reinterpret_cast<const uint64_t*>(bytes.data());
    for (uint64_t sector = 0; sector < shape_.sectors; sector++)
      check_sector(sector, words + sector * 64);
  }
  uint64_t reads() const { return reads_; }
  uint64_t writes() const { return writes_; }
  uint64_t errors() const { return errors_; }

 private:
  struct Asked {
    Kind kind{};
    Zeroes zeroes = Zeroes::no;
    bool secure = false;
    uint64_t first = 0;  // sectors
    uint64_t count = 0;
    uint64_t value = 0;
    uint64_t number = 0;  // of the promise, where it is carried out once more

    bool writes() const { return kind == Kind::write || kind == Kind::discard; }
  };
  struct Slot {
    Operation operation{};
    std::unique_ptr<std::byte, void (*)(void*)> memory{nullptr, std::free};
    bool busy = false;
    Asked asked{};
    uint64_t begun = 0;
  };

  uint64_t below(uint64_t bound) { return random_() % bound; }

  bool is_in_the_way(const Asked& asked) const {
    if (asked.kind == Kind::flush) return false;
    const auto meets = [&](const Asked& other) {
      return other.kind != Kind::flush && (asked.writes() || other.writes()) &&
             other.first < asked.first + asked.count && asked.first < other.first + other.count;
    };
    for (const auto& queue : slots_)
      for (const Slot& slot : queue)
        if (slot.busy && meets(slot.asked)) return true;
    // What is to be carried out once more has the older data.
    return std::ranges::any_of(
        replays_, [&](const Asked& other) { return other.value != asked.value && meets(other); });
  }
  bool issue(size_t queue, const Asked& asked, bool may_write) {
    if ((asked.kind != Kind::read && !may_write) || is_in_the_way(asked)) return false;
    const auto found = std::ranges::find(slots_[queue], false, &Slot::busy);
    if (found == slots_[queue].end()) return false;
    Slot& slot = *found;
    slot.busy = true;
    busy_++;
    slot.asked = asked;
    Operation& operation = slot.operation = {};
    operation.kind = asked.kind;
    operation.sink = this;
    operation.owner = &slot;
    operation.channel = &channels_(queue);
    if (asked.kind != Kind::flush) {
      operation.offset = asked.first * kSectorBytes;
      operation.length = asked.count * kSectorBytes;
    }
    operation.zeroes = asked.zeroes;
    operation.secure = asked.secure;
    operation.memory = slot.memory.get();
    if (asked.kind == Kind::write)
      std::fill_n(reinterpret_cast<uint64_t*>(slot.memory.get()), asked.count * 64, asked.value);
    begin(slot);
    if (operation.channel->start(operation)) finished(operation);
    return true;
  }
  void begin(Slot& slot) {
    const Asked asked = slot.asked;
    if (asked.kind == Kind::flush) slot.begun = promises_.flush_begins();
    if (asked.number != 0) slot.begun = asked.number;
    if (!asked.writes() || asked.number != 0) return;
    slot.begun = slot.asked.number =
        promises_.write_begins(asked.first, asked.count,
                               DiskPromises::Values{asked.kind == Kind::write ? asked.value : 0});
  }

  void finished(Operation& operation) override {
    Slot& slot = *static_cast<Slot*>(operation.owner);
    slot.busy = false;
    busy_--;
    // Its memory is another request's from now on.
    const Asked asked = slot.asked;
    const int32_t result = operation.result;
    if (!is_dead_) {
      // Zeroes that the disk cannot make without writing them are no error of its medium.
      if (result < 0 && result != -EOPNOTSUPP) errors_++;
      if (asked.kind == Kind::flush && result == 0) promises_.flush_over(slot.begun);
      if (asked.kind == Kind::read && result == 0) check_read(slot);
      if (asked.writes()) {
        writes_++;
        // A discard that promises nothing may do nothing.
        const bool is_hint =
            asked.kind == Kind::discard && !asked.secure && asked.zeroes == Zeroes::no;
        promises_.write_over(slot.begun, asked.first, asked.count, result < 0 || is_hint);
      }
    }
    std::fill_n(reinterpret_cast<uint64_t*>(slot.memory.get()), shape_.most_sectors * 64, kReused);
  }
  void check_read(const Slot& slot) {
    reads_++;
    const auto* words = reinterpret_cast<const uint64_t*>(slot.memory.get());
    for (uint64_t i = 0; i < slot.asked.count; i++)
      check_sector(slot.asked.first + i, words + i * 64);
  }
  void check_sector(uint64_t sector, const uint64_t* words) {
    const bool is_one = std::all_of(words, words + 64, [&](uint64_t one) { return one == *words; });
    const bool is_right = is_one && promises_.read(sector, *words);
    if (is_right) return;
    CAPTURE(sector);
    CAPTURE(*words);
    REQUIRE(is_right);
  }

  std::minstd_rand& random_;
  const Shape shape_;
  DiskPromises promises_;
  const Channels channels_;
  std::array<std::array<Slot, kDepth>, kQueues> slots_;
  std::vector<Asked> replays_;
  bool is_dead_ = false;
  uint64_t busy_ = 0;
  uint64_t next_value_ = 1;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t errors_ = 0;
};

}  // namespace ringdisk
