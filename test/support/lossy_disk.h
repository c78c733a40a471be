// SPDX-License-Identifier: Apache-2.0
// A disk with a cache, in memory: what was written and not flushed is lost in random parts when its
// host dies, and what a dead daemon had in flight lands or doesn't. Its operations come to their
// end one by one, in any order, when the test says so.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/units.h"
#include "medium/block_map.h"
#include "targets/target.h"

namespace ringdisk {

class LossyDisk {
 public:
  using Bytes = std::vector<std::byte>;

  explicit LossyDisk(uint64_t bytes) : now_(bytes), durable_(bytes) {}

  std::unique_ptr<TargetChannel> open();

  Bytes& now() { return now_; }
  void settle() { durable_ = now_, sectors_.clear(); }
  size_t in_flight() const { return started_.size(); }
  void end_one(std::minstd_rand& random) { end(random() % started_.size(), random); }
  void end_newest() {
    std::minstd_rand random;
    end(started_.size() - 1, random);
  }
  // From now on so many operations of a hundred fail, half of them after they were carried out.
  int failing_percent = 0;
  bool zeroes_fast = true;
  bool zeroes_at_all = true;
  bool is_read_only = false;
  bool is_gone = false;
  int broken_off = 0;  // channels, so far
  // Ends of channels wait until the test says so.
  bool closes_slowly = false;
  std::vector<std::function<void()>> closing;
  void end_closing() {
    for (const auto& done : std::exchange(closing, {})) done();
  }

  // What a daemon that died had in flight; its memory is gone, so that it is copied.
  struct Orphan {
    Operation operation{};
    Bytes data;
    uint64_t writes_before = 0;
  };
  std::vector<Orphan> orphan_all() const;
  void forget_all() { started_.clear(); }
  void land(Orphan& orphan) {
    orphan.operation.memory = orphan.data.data();
    if (orphan.operation.kind != Operation::Kind::read &&
        orphan.operation.kind != Operation::Kind::map)
      carry_out(orphan.operation, {nullptr, orphan.writes_before});
  }
  void host_dies(std::minstd_rand& random);

 private:
  friend class LossyChannel;
  struct Started {
    Operation* operation;
    uint64_t writes_before;  // that a flush covers
  };
  struct Sector {
    uint64_t at;
    uint64_t write;  // the how-manieth
    std::array<std::byte, kSectorBytes> bytes;
  };

  void end(size_t which, std::minstd_rand& random) {
    const Started one = started_[which];
    started_.erase(started_.begin() + static_cast<long>(which));
    one.operation->result = fails(*one.operation, random) ? -EIO : carry_out(*one.operation, one);
    one.operation->sink->finished(*one.operation);
  }
  bool fails(Operation& operation, std::minstd_rand& random) {
    if (static_cast<int>(random() % 100) >= failing_percent) return false;
    const bool half = operation.kind == Operation::Kind::write && random() % 2 == 0;
    if (half) {
      Operation part = operation;
      part.length = kSectorBytes;
      carry_out(part, {});
    }
    return true;
  }
  int32_t carry_out(Operation& operation, const Started& started);
  void map(const Operation& operation) const;
  void put(uint64_t at, const std::byte* bytes, uint64_t length);

  Bytes now_;
  Bytes durable_;
  std::vector<Sector> sectors_;  // not flushed, in order
  uint64_t writes_ = 0;
  std::vector<Started> started_;
};

class LossyChannel final : public TargetChannel {
 public:
  explicit LossyChannel(LossyDisk& disk) : disk_(disk) {}
  ~LossyChannel() override { RD_ASSERT(!is_closing_); }
  bool start(Operation& operation) override {
    RD_ASSERT(!disk_.is_gone);
    RD_ASSERT(operation.offset + operation.length <= disk_.now_.size());
    RD_ASSERT(reinterpret_cast<uintptr_t>(operation.memory) % kPageBytes == 0);
    disk_.started_.push_back({&operation, disk_.writes_});
    return false;
  }
  void break_off() override { disk_.broken_off++; }
  void close(std::function<void()> done) override {
    if (!disk_.closes_slowly) return done();
    is_closing_ = true;
    disk_.closing.emplace_back([this, done = std::move(done)] {
      is_closing_ = false;
      done();
    });
  }
  bool advance(Operation&, int32_t) override {
    RD_ASSERT(!"nothing is ever submitted");
    return true;
  }

 private:
  LossyDisk& disk_;
  bool is_closing_ = false;
};

inline std::unique_ptr<TargetChannel> LossyDisk::open() {
  return std::make_unique<LossyChannel>(*this);
}

inline void LossyDisk::put(uint64_t at, const std::byte* bytes, uint64_t length) {
  RD_ASSERT(!is_read_only);
  writes_++;
  for (uint64_t done = 0; done < length; done += kSectorBytes) {
    Sector& sector = sectors_.emplace_back(Sector{at + done, writes_, {}});
    if (bytes) std::memcpy(sector.bytes.data(), bytes + done, kSectorBytes);
    std::memcpy(&now_[at + done], sector.bytes.data(), kSectorBytes);
  }
}

inline int32_t LossyDisk::carry_out(Operation& operation, const Started& started) {
  switch (operation.kind) {
    case Operation::Kind::read:
      std::memcpy(operation.memory, &now_[operation.offset], operation.length);
      return 0;
    case Operation::Kind::write:
      put(operation.offset, operation.memory, operation.length);
      return 0;
    case Operation::Kind::discard:
      if (operation.zeroes == Zeroes::fast && !zeroes_fast) return -EOPNOTSUPP;
      if (operation.zeroes != Zeroes::no && !zeroes_at_all) return -EOPNOTSUPP;
      if (operation.zeroes == Zeroes::no && !operation.secure && !zeroes_fast) return 0;
      put(operation.offset, nullptr, operation.length);
      return 0;
    case Operation::Kind::flush:
      std::erase_if(sectors_, [&](const Sector& sector) {
        if (sector.write > started.writes_before) return false;
        std::memcpy(&durable_[sector.at], sector.bytes.data(), kSectorBytes);
        return true;
      });
      return 0;
    case Operation::Kind::map:
      map(operation);
      return 0;
  }
  return -EINVAL;
}

// What is all zeroes now is a hole.
inline void LossyDisk::map(const Operation& operation) const {
  MapExtent extents[kMapExtents] = {};
  size_t count = 0;
  for (uint64_t at = operation.offset; at < operation.offset + operation.length;
       at += kSectorBytes) {
    const auto sector = std::span(now_).subspan(at, kSectorBytes);
    const bool is_zero =
        std::ranges::all_of(sector, [](std::byte one) { return one == std::byte{}; });
    const MapKind kind = is_zero ? MapKind::hole : MapKind::data;
    if (count > 0 && extents[count - 1].kind == kind)
      extents[count - 1].length += kSectorBytes;
    else if (count < kMapExtents)
      extents[count++] = {kSectorBytes, kind};
    else
      break;
  }
  std::memcpy(operation.memory, extents, sizeof extents);
}

inline std::vector<LossyDisk::Orphan> LossyDisk::orphan_all() const {
  std::vector<Orphan> orphans;
  for (const Started& one : started_) {
    Orphan& orphan = orphans.emplace_back(Orphan{*one.operation, {}, one.writes_before});
    if (orphan.operation.kind == Operation::Kind::write)
      orphan.data.assign(one.operation->memory, one.operation->memory + one.operation->length);
  }
  return orphans;
}

inline void LossyDisk::host_dies(std::minstd_rand& random) {
  const unsigned kept_percent = random() % 101;
  for (const Sector& sector : sectors_)
    if (random() % 100 < kept_percent)
      std::memcpy(&durable_[sector.at], sector.bytes.data(), kSectorBytes);
  sectors_.clear();
  now_ = durable_;
}

// All of it, durably; `value` of each sector.
inline void fill_sectors(LossyDisk& disk, uint64_t (*value)(uint64_t)) {
  for (uint64_t at = 0; at < disk.now().size(); at += 8) {
    const uint64_t word = value(at / kSectorBytes);
    std::memcpy(&disk.now()[at], &word, 8);
  }
  disk.settle();
}

}  // namespace ringdisk
