// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace ringdisk {

// One bit for each chunk of a disk, in this process alone and for one thread. Those that are clear
// are found at once, however large the disk is: a second row has a bit for each word of the first
// that has a clear one.
class ChunkBits {
 public:
  explicit ChunkBits(uint64_t count)
      : count_(count), words_(words(count)), open_(words(words_.size())) {
    for (uint64_t i = 0; i < words_.size(); i++) note(i);
  }

  bool has(uint64_t at) const { return (words_[at / 64] >> (at % 64) & 1) != 0; }
  bool any(uint64_t first, uint64_t end) const {
    for (uint64_t at = first; at < end; at = next_word(at))
      if ((words_[at / 64] & mask(at, end)) != 0) return true;
    return false;
  }
  // Both return how many have changed.
  uint64_t set(uint64_t first, uint64_t end) {
    return change(first, end, [](uint64_t word, uint64_t bits) { return word | bits; });
  }
  uint64_t clear(uint64_t first, uint64_t end) {
    return change(first, end, [](uint64_t word, uint64_t bits) { return word & ~bits; });
  }
  // The first that is clear, from `first` on; `count`: none is.
  uint64_t next_clear(uint64_t first) const {
    if (first >= count_) return count_;
    const uint64_t here = ~words_[first / 64] >> (first % 64);
    if (here != 0) return std::min(first + static_cast<unsigned>(std::countr_zero(here)), count_);
    for (uint64_t word = first / 64 + 1; word < words_.size();) {
      const uint64_t open = open_[word / 64] >> (word % 64);
      if (open == 0) {
        word = (word / 64 + 1) * 64;
        continue;
      }
      word += static_cast<unsigned>(std::countr_zero(open));
      const auto bit = static_cast<unsigned>(std::countr_zero(~words_[word]));
      return std::min(word * 64 + bit, count_);
    }
    return count_;
  }
  uint64_t count() const { return count_; }

 private:
  static uint64_t words(uint64_t bits) { return (bits + 63) / 64; }
  static uint64_t next_word(uint64_t at) { return (at / 64 + 1) * 64; }
  // The bits of the word of `at`, from there on and before `end`.
  static uint64_t mask(uint64_t at, uint64_t end) {
    const uint64_t count = std::min(next_word(at), end) - at;
    return (~uint64_t{0} >> (64 - count)) << (at % 64);
  }
  template <typename Change>
  uint64_t change(uint64_t first, uint64_t end, Change what) {
    uint64_t changed = 0;
    for (uint64_t at = first; at < end; at = next_word(at)) {
      uint64_t& word = words_[at / 64];
      const uint64_t before = word;
      word = what(word, mask(at, end));
      changed += static_cast<unsigned>(std::popcount(before ^ word));
      note(at / 64);
    }
    return changed;
  }
  void note(uint64_t index) {
    const uint64_t bit = uint64_t{1} << (index % 64);
    uint64_t& open = open_[index / 64];
    open = ~words_[index] != 0 ? open | bit : open & ~bit;
  }

  uint64_t count_;
  std::vector<uint64_t> words_;
  std::vector<uint64_t> open_;
};

}  // namespace ringdisk
