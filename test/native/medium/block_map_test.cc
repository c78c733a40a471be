// SPDX-License-Identifier: Apache-2.0
#include "medium/block_map.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "../targets/test_media.h"
#include "base/fd.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMib = 1u << 20;

struct Map {
  std::vector<uint64_t> lengths;
  std::vector<MapKind> kinds;
};

struct Fixture {
  TempFile file{disk_folder(), 64 * kMib};
  Fd fd{::open(file.path().c_str(), O_RDWR)};

  void put(uint64_t offset, const std::string& bytes) {
    REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
  }
  Map zeroes(uint64_t offset, uint64_t length) {
    std::array<MapExtent, kMapExtents> found;
    REQUIRE(map_zeroes(fd.get(), offset, length, reinterpret_cast<std::byte*>(found.data())) ==
            kMapBytes);
    Map map;
    for (const MapExtent& one : found) {
      if (one.length == 0) break;
      map.lengths.push_back(one.length);
      map.kinds.push_back(one.kind);
    }
    return map;
  }
};

}  // namespace

TEST_CASE("zeroes are found by reading, in units, a bounded part at a time") {
  Fixture f;
  // The last byte of a unit.
  f.put(2 * kMapUnitBytes - 1, "x");
  const Map map = f.zeroes(0, 64 * kMib);
  CHECK(map.lengths ==
        std::vector<uint64_t>{kMapUnitBytes, kMapUnitBytes, kMapReadBytesMax - 2 * kMapUnitBytes});
  CHECK(map.kinds == std::vector{MapKind::zero, MapKind::data, MapKind::zero});
}

TEST_CASE("what is asked for begins and ends anywhere") {
  Fixture f;
  f.put(0, "x");
  CHECK(f.zeroes(512, 512).kinds == std::vector{MapKind::zero});
  CHECK(f.zeroes(512, 512).lengths == std::vector<uint64_t>{512});
  CHECK(f.zeroes(0, kMapUnitBytes + 512).lengths == std::vector<uint64_t>{kMapUnitBytes, 512});
}

TEST_CASE("what cannot be read counts as data, and so does what is not there") {
  Fixture f;
  f.file.resize(kMapUnitBytes);
  const Map map = f.zeroes(0, 2 * kMapUnitBytes);
  CHECK(map.kinds == std::vector{MapKind::zero, MapKind::data});
  CHECK(map.lengths == std::vector<uint64_t>{kMapUnitBytes, kMapUnitBytes});
}

TEST_CASE("more pieces than an answer has room for are left out") {
  Fixture f;
  // Asked for from within a unit, so that there could be one more.
  for (uint64_t at = 0; at < 64 * kMib; at += 2 * kMapUnitBytes) f.put(at, "x");
  const Map map = f.zeroes(512, 64 * kMib - 512);
  CHECK(map.lengths.size() <= kMapExtents);
  uint64_t covered = 0;
  for (const uint64_t length : map.lengths) covered += length;
  CHECK(covered == kMapReadBytesMax);
}

}  // namespace ringdisk
