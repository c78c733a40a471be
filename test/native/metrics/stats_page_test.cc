// SPDX-License-Identifier: Apache-2.0
#include "metrics/stats_page.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "temp_machine.h"

namespace ringdisk {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator(file), {}};
}

// As a monitor finds it: the offset that the index has for `name`.
uint64_t value_of(const std::string& page, const std::string& name, size_t word = 0) {
  const size_t found = page.find("\"" + name + "\":");
  REQUIRE(found != std::string::npos);
  const size_t offset = std::stoull(page.substr(found + name.size() + 3)) + word * sizeof(uint64_t);
  REQUIRE(offset + sizeof(uint64_t) <= page.size());
  uint64_t value;
  std::memcpy(&value, page.data() + offset, sizeof value);
  return value;
}

TEST_CASE("stats page: says where each counter is, and what it counts shows at once") {
  const TempMachine machine;
  const std::string path = machine.dir() + "/queue.stats";
  const auto counters = make_counters(path);
  CHECK(value_of(read_file(path), "reads") == 0);
  counters->reads.add(3);
  counters->broken.set(1);
  counters->latency[4].record(5);
  counters->latency[4].record(7);
  const std::string page = read_file(path);
  CHECK(value_of(page, "reads") == 3);
  CHECK(value_of(page, "brokenQueues") == 1);
  CHECK(value_of(page, "writes") == 0);
  CHECK(value_of(page, "discard", 5) == 1);
  CHECK(value_of(page, "discard", 7) == 1);
  constexpr size_t kBuckets = LatencyHistogram::kBucketCount;
  CHECK(page.find("\"buckets\":" + std::to_string(kBuckets)) != std::string::npos);
  CHECK(value_of(page, "discard", kBuckets) == 2);
  CHECK(value_of(page, "discard", kBuckets + 1) == 12);
  CHECK(value_of(page, "discard", kBuckets + 2) == 5);
  CHECK(value_of(page, "discard", kBuckets + 3) == 7);
}

TEST_CASE("stats page: the next process's takes the place of one that is still mapped") {
  const TempMachine machine;
  const std::string path = machine.dir() + "/queue.stats";
  auto before = make_counters(path);
  const auto after = make_counters(path);
  after->reads.add();
  before->reads.add(100);
  before.reset();
  CHECK(value_of(read_file(path), "reads") == 1);
}

TEST_CASE("stats page: where there can be none, counters are in plain memory") {
  const TempMachine machine;
  for (const std::string path : {"", "/nowhere/queue.stats"}) {
    const auto counters = make_counters(path);
    counters->reads.add();
    CHECK(counters->reads.get() == 1);
  }
  // A link that somebody put there is not followed.
  const std::string path = machine.dir() + "/queue.stats";
  const std::string victim = machine.dir() + "/victim";
  std::ofstream(victim) << "precious";
  std::filesystem::create_symlink(victim, path + ".new");
  make_counters(path)->reads.add();
  CHECK(read_file(victim) == "precious");
}

}  // namespace
}  // namespace ringdisk
