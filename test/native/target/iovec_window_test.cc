// SPDX-License-Identifier: Apache-2.0
#include "target/iovec_window.h"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <numeric>
#include <vector>

namespace ringdisk {
namespace {

struct Memory {
  std::array<std::byte, 64> bytes{};
  std::vector<iovec> iovecs;

  explicit Memory(const std::vector<size_t>& lengths) {
    size_t offset = 0;
    for (const size_t length : lengths) {
      iovecs.push_back({bytes.data() + offset, length});
      offset += length;
    }
  }
};

bool same(const std::vector<iovec>& left, const std::vector<iovec>& right) {
  for (size_t i = 0; i < left.size(); i++) {
    if (left[i].iov_base != right[i].iov_base || left[i].iov_len != right[i].iov_len) return false;
  }
  return left.size() == right.size();
}

TEST_CASE("iovec window: every range shows exactly its bytes, and closing restores") {
  for (const std::vector<size_t>& lengths :
       {std::vector<size_t>{16}, {5, 1, 10}, {1, 1, 1, 1}, {8, 8}}) {
    const size_t total = std::accumulate(lengths.begin(), lengths.end(), size_t{0});
    for (size_t begin = 0; begin < total; begin++) {
      for (size_t length = 1; begin + length <= total; length++) {
        Memory memory(lengths);
        const std::vector<iovec> before = memory.iovecs;
        IovecWindow window;
        size_t position = begin;
        for (const iovec& part : window.open(memory.iovecs, begin, length)) {
          REQUIRE(part.iov_base == memory.bytes.data() + position);
          REQUIRE(part.iov_len > 0);
          position += part.iov_len;
        }
        REQUIRE(position == begin + length);
        window.close(memory.iovecs);
        REQUIRE(same(memory.iovecs, before));
      }
    }
  }
}

TEST_CASE("iovec window: closing a closed one changes nothing, and it opens again") {
  Memory memory({4, 4});
  const std::vector<iovec> before = memory.iovecs;
  IovecWindow window;
  window.close(memory.iovecs);
  for (int round = 0; round < 2; round++) {
    CHECK(window.open(memory.iovecs, 2, 4).size() == 2);
    window.close(memory.iovecs);
    window.close(memory.iovecs);
    CHECK(same(memory.iovecs, before));
  }
}

}  // namespace
}  // namespace ringdisk
