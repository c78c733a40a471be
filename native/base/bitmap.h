// SPDX-License-Identifier: Apache-2.0
// One bit for each chunk of a disk, in a file that is mapped: what a process has set stays set when
// it dies. On tmpfs, since who stores into a page of another file system may wait for its medium.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ringdisk {

class Bitmap {
 public:
  static constexpr uint32_t kGranularityMin = 4u << 10;
  static constexpr uint32_t kGranularityMax = 64u << 20;
  // 8 MiB of bits: all of them are looked at or set in less than a millisecond.
  static constexpr uint64_t kChunksMax = uint64_t{1} << 26;
  static constexpr size_t kLabelBytes = 512;
  // Chunks that run() looks at.
  static constexpr uint64_t kRunChunks = uint64_t{1} << 22;

  // What whoever sets bits makes of it; here it is only kept.
  enum class State : uint32_t { recording = 1, disabled = 2, inconsistent = 3 };

  // Makes the file, all bits clear, really allocated; none may be there. `bytes` is the disk's
  // size, `label` says whose bits these are. Throws std::invalid_argument where a number is out of
  // bounds, or std::system_error, with nothing left behind.
  static void create(const std::string& path, uint64_t bytes, uint32_t granularity,
                     const std::string& label, State state = State::recording);
  // Throws std::system_error, ESTALE for a file that is no such map or was not finished.
  explicit Bitmap(const std::string& path);
  ~Bitmap();
  Bitmap(const Bitmap&) = delete;
  Bitmap& operator=(const Bitmap&) = delete;

  // Bytes; what lies behind counts as set, whatever its size.
  uint64_t covered() const { return covered_; }
  uint32_t granularity() const { return uint32_t{1} << shift_; }
  std::string label() const;
  State state() const { return static_cast<State>(header_word().load(std::memory_order_acquire)); }
  void set_state(State state) {
    header_word().store(static_cast<uint32_t>(state), std::memory_order_release);
  }

  // Any thread, and several at once. One relaxed load for each 64 chunks that are set already. It
  // is in the file when this returns, so that whoever starts a write afterwards may die.
  void set(uint64_t offset, uint64_t length) {
    const uint64_t chunk = offset >> shift_;
    const bool is_one = chunk == (offset + length - 1) >> shift_ && chunk < chunks_;
    if (!is_one || (word(chunk / 64) >> (chunk % 64) & 1) == 0) set_range(offset, length);
  }
  // Whole chunks, by number.
  void clear_chunks(uint64_t first, uint64_t end);
  bool is_set(uint64_t offset) const {
    const uint64_t chunk = offset >> shift_;
    return chunk >= whole_chunks(offset) || (word(chunk / 64) >> (chunk % 64) & 1) != 0;
  }

  struct Run {
    uint64_t length;  // bytes; 0 at `end`
    bool is_set;
  };
  // What is alike from `offset` on, up to `end` at most; may end before it changes, after
  // kRunChunks.
  Run run(uint64_t offset, uint64_t end) const;
  // Of the first `end` bytes of the disk.
  uint64_t set_bytes(uint64_t end) const;
  // As well what is set in the other one. Throws std::invalid_argument where granularities differ.
  void merge(const Bitmap& other);
  // The bits of 64 chunks each, little-endian, from that of chunk `first_word` * 64 on.
  std::vector<uint64_t> words(uint64_t first_word, size_t count) const;
  uint64_t chunks() const { return chunks_; }

 private:
  using Word = std::atomic<uint64_t>;
  std::atomic<uint32_t>& header_word() const;
  void set_range(uint64_t offset, uint64_t length);
  void mark(uint64_t index, uint64_t bits);
  uint64_t word(uint64_t index) const { return words_[index].load(std::memory_order_relaxed); }
  // Those that a disk which has `offset` has under a bit: the last one may be covered in part.
  uint64_t whole_chunks(uint64_t offset) const {
    return offset < covered_ ? chunks_ : covered_ >> shift_;
  }

  std::byte* memory_ = nullptr;
  size_t bytes_ = 0;
  Word* words_ = nullptr;
  uint64_t covered_ = 0;
  uint64_t chunks_ = 0;
  uint32_t shift_ = 0;
};

// What writes are marked in.
using Bitmaps = std::vector<std::shared_ptr<Bitmap>>;

}  // namespace ringdisk
