// SPDX-License-Identifier: Apache-2.0
#include "base/bitmap.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kGranularity = 64u << 10;

struct Fixture {
  TempMachine folder;
  std::string path = folder.dir() + "/bits";

  std::unique_ptr<Bitmap> make(uint64_t bytes, uint32_t granularity = kGranularity) {
    std::filesystem::remove(path);
    Bitmap::create(path, bytes, granularity, "whose");
    return std::make_unique<Bitmap>(path);
  }
};

// All that run() says, by byte, in units of `step`.
std::vector<bool> told(const Bitmap& map, uint64_t end, uint64_t step) {
  std::vector<bool> found;
  for (uint64_t at = 0; at < end;) {
    const Bitmap::Run one = map.run(at, end);
    REQUIRE(one.length > 0);
    REQUIRE(one.length % step == 0);
    found.insert(found.end(), one.length / step, one.is_set);
    at += one.length;
  }
  return found;
}

TEST_CASE("bitmap: what is set and not cleared is told, in its file too, and nothing else") {
  Fixture f;
  std::mt19937_64 random(1);
  for (const uint64_t chunks : {1, 63, 64, 65, 1000}) {
    const auto map = f.make(chunks * kGranularity);
    CHECK(map->label() == "whose");
    CHECK(map->covered() == chunks * kGranularity);
    CHECK(map->set_bytes(map->covered()) == 0);
    std::vector<bool> expected(chunks);
    for (int i = 0; i < 12; i++) {
      const uint64_t offset = random() % map->covered() / 512 * 512;
      const uint64_t length =
          std::min(random() % (kGranularity * 80) / 512 * 512 + 512, map->covered() - offset);
      map->set(offset, length);
      for (uint64_t at = offset / kGranularity; at * kGranularity < offset + length; at++)
        expected[at] = true;
      const uint64_t first = random() % chunks;
      const uint64_t end = first + random() % 70;
      map->clear_chunks(first, end);
      for (uint64_t at = first; at < std::min(end, chunks); at++) expected[at] = false;
      const Bitmap again(f.path);
      CHECK(told(again, map->covered(), kGranularity) == expected);
      const auto set = static_cast<uint64_t>(std::ranges::count(expected, true));
      CHECK(again.set_bytes(map->covered()) == set * kGranularity);
      for (uint64_t at = 0; at < chunks; at++)
        CHECK(again.is_set(at * kGranularity + 512) == expected[at]);
    }
  }
}

TEST_CASE("bitmap: what it does not cover counts as set") {
  Fixture f;
  // The last chunk is half there.
  const uint64_t covered = 3 * kGranularity + kGranularity / 2;
  const auto map = f.make(covered);
  map->set(covered - 512, 512 * 1024);
  map->set(covered, 1 << 20);
  map->set(0, 0);
  CHECK(told(*map, covered, 512 * 64) ==
        std::vector<bool>{false, false, false, false, false, false, true});
  CHECK(map->set_bytes(covered) == kGranularity / 2);
  // The disk has grown: of that chunk nothing is known any more.
  const auto clear = f.make(covered);
  CHECK(clear->set_bytes(covered) == 0);
  CHECK(clear->run(3 * kGranularity, covered).is_set == false);
  CHECK(clear->run(3 * kGranularity, 2 * covered).is_set);
  CHECK(clear->run(0, 2 * covered).length == 3 * kGranularity);
  CHECK(clear->set_bytes(2 * covered) == 2 * covered - 3 * kGranularity);
  CHECK(clear->is_set(covered));
  CHECK_FALSE(clear->is_set(covered - 512));
  // It has shrunk.
  map->set(0, 1);
  CHECK(map->set_bytes(512) == 512);
  CHECK(map->run(0, 512).length == 512);
}

TEST_CASE("bitmap: a long run is told in bounded steps") {
  Fixture f;
  const auto map = f.make(Bitmap::kRunChunks * 4096 * 2, 4096);
  CHECK(map->run(4096, map->covered()).length == Bitmap::kRunChunks * 4096);
  map->set(0, map->covered());
  CHECK(map->run(0, map->covered()).length == Bitmap::kRunChunks * 4096);
  CHECK(map->set_bytes(map->covered()) == map->covered());
}

TEST_CASE("bitmap: threads that set bits of one word lose none") {
  Fixture f;
  const auto map = f.make(uint64_t{1024} * kGranularity);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; i++)
    threads.emplace_back([&map, i] {
      for (uint64_t at = i; at < 1024; at += 4) map->set(at * kGranularity, 1);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(map->set_bytes(map->covered()) == map->covered());
}

TEST_CASE("bitmap: merged is what either has") {
  Fixture f;
  Fixture g;
  const auto one = f.make(uint64_t{200} * kGranularity);
  const auto other = g.make(uint64_t{100} * kGranularity + 512);
  one->set(0, 1);
  other->set(3 * kGranularity, kGranularity * 70);
  one->merge(*other);
  // Of what the other one does not cover all is set.
  CHECK(one->set_bytes(one->covered()) == (1 + 70 + 100) * uint64_t{kGranularity});
  other->merge(*one);
  CHECK(other->set_bytes(other->covered()) == uint64_t{71} * kGranularity + 512);
  CHECK_THROWS_AS(one->merge(*g.make(1 << 20, 4096)), std::invalid_argument);
}

TEST_CASE("bitmap: out of bounds or spoilt files are refused") {
  Fixture f;
  for (const uint32_t granularity : {0u, 2048u, 5000u, 128u << 20})
    CHECK_THROWS_AS(f.make(1 << 20, granularity), std::invalid_argument);
  CHECK_THROWS_AS(f.make(0), std::invalid_argument);
  CHECK_THROWS_AS(f.make((Bitmap::kChunksMax + 1) * 4096, 4096), std::invalid_argument);
  CHECK_FALSE(std::filesystem::exists(f.path));
  CHECK_THROWS_AS(Bitmap{f.path}, std::system_error);
  f.make(1 << 20);
  CHECK_THROWS_AS(Bitmap::create(f.path, 1 << 20, kGranularity, ""), std::system_error);
  const auto spoil = [&](std::streamoff at, char with) {
    f.make(1 << 20);
    std::fstream file(f.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at).put(with);
  };
  for (const std::streamoff at : {0, 8, 12, 16}) {
    spoil(at, 7);
    CHECK_THROWS_AS(Bitmap{f.path}, std::system_error);
  }
  f.make(1 << 20);
  std::filesystem::resize_file(f.path, 4096);
  CHECK_THROWS_AS(Bitmap{f.path}, std::system_error);
  std::filesystem::resize_file(f.path, 10);
  CHECK_THROWS_AS(Bitmap{f.path}, std::system_error);
}

TEST_CASE("bitmap: its state is kept") {
  Fixture f;
  const auto map = f.make(1 << 20);
  CHECK(map->state() == Bitmap::State::recording);
  map->set_state(Bitmap::State::inconsistent);
  CHECK(Bitmap(f.path).state() == Bitmap::State::inconsistent);
  CHECK(map->words(0, 8) == std::vector<uint64_t>{0});
}

TEST_CASE("bitmap: what is told while bits come and go is a length of at least one byte") {
  Fixture f;
  constexpr uint64_t kBytes = 3 * kGranularity;
  const auto map = f.make(kBytes);
  std::atomic<bool> ends{false};
  std::thread writer([&] {
    while (!ends) {
      map->set(0, kBytes);
      map->clear_chunks(0, 3);
    }
  });
  constexpr uint64_t kInside = 4096;
  uint64_t wrong = 0;
  for (int i = 0; i < 5'000'000 && wrong == 0; i++) {
    const uint64_t length = map->run(kInside, kBytes).length;
    if (length == 0 || length > kBytes - kInside) wrong++;
    if (map->set_bytes(kBytes - kInside) > kBytes) wrong++;
  }
  ends = true;
  writer.join();
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace ringdisk
