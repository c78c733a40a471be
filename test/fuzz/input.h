// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

// What a fuzzer found out to be wrong: the fuzzer keeps the input and reports it.
#define FUZZ_CHECK(condition)                                                             \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "fuzz: not so: %s (%s:%d)\n", #condition, __FILE__, __LINE__); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (0)

namespace ringdisk::fuzz {

// The fuzzer's bytes, taken from the front; zeros when there are no more.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }
  void copy(void* to, size_t bytes) {
    std::memset(to, 0, bytes);
    const size_t count = std::min(bytes, rest_.size());
    if (count > 0) std::memcpy(to, rest_.data(), count);
    rest_ = rest_.subspan(count);
  }
  template <typename T>
  T take() {
    T value;
    copy(&value, sizeof value);
    return value;
  }
  // 0 .. bound - 1
  uint32_t below(uint32_t bound) { return take<uint8_t>() % bound; }
  bool flag() { return (take<uint8_t>() & 1) != 0; }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace ringdisk::fuzz
