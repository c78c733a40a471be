// SPDX-License-Identifier: Apache-2.0
#include "metrics/stats_page.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/fd.h"
#include "base/units.h"
#include "metrics/counter_names.h"

namespace ringdisk {
namespace {

constexpr size_t kPageFileBytes = kPageBytes + sizeof(QueueCounters);

template <typename Member>
size_t offset_of(const QueueCounters& counters, const Member& member) {
  const auto* start = reinterpret_cast<const std::byte*>(&counters);
  return kPageBytes + static_cast<size_t>(reinterpret_cast<const std::byte*>(&member) - start);
}

std::string entry(const char* name, size_t offset) {
  return (std::string{"\""} + name).append("\":").append(std::to_string(offset));
}

// {"version":1,"counters":{"reads":4096,...},"latency":{"read":4352,...},"waits":{...},...}
// Offsets in bytes. A histogram is its buckets, then count, sum, minimum and maximum, nanoseconds.
std::string index_of(const QueueCounters& counters) {
  std::string text = R"({"version":1,"counters":{)";
  for (const CounterName& each : kCounterNames)
    text += entry(each.name, offset_of(counters, counters.*each.counter)) + ",";
  text.back() = '}';
  text += R"(,"latency":{)";
  for (size_t i = 0; i < std::size(kOperationNames); i++)
    text += entry(kOperationNames[i], offset_of(counters, counters.latency[i])) + ",";
  text.back() = '}';
  text += R"(,"waits":{)" + entry("tokens", offset_of(counters, counters.waited_for_tokens)) + "}";
  text += "," + entry("buckets", LatencyHistogram::kBucketCount);
  text += "," + entry("subBucketBits", LatencyHistogram::kSubBucketBits) + "}\n";
  return text;
}

// What no disk can do without comes first: a journal that finds no room fails its connect.
bool is_room_ample(int fd) {
  constexpr uint64_t kKeptFree = 16u << 20;
  struct statvfs fs{};
  if (::fstatvfs(fd, &fs) != 0) return false;
  const uint64_t free = uint64_t{fs.f_bavail} * fs.f_frsize;
  return free >= kKeptFree && free >= uint64_t{fs.f_blocks} * fs.f_frsize / 4;
}

// Null when it can't be made, or had better not be.
void* map_new_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return nullptr;
  if (!is_room_ample(fd.get())) return nullptr;
  // Really allocated: on a full tmpfs the first store into a hole would kill the process.
  if (::posix_fallocate(fd.get(), 0, kPageFileBytes) != 0) return nullptr;
  void* memory = ::mmap(nullptr, kPageFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

std::shared_ptr<QueueCounters> make_counters(const std::string& path) {
  if (path.empty()) return std::make_shared<QueueCounters>();
  const std::string unfinished = path + ".new";
  void* memory = map_new_file(unfinished);
  if (!memory) {
    ::unlink(unfinished.c_str());
    return std::make_shared<QueueCounters>();
  }
  auto* counters = new (static_cast<std::byte*>(memory) + kPageBytes) QueueCounters;
  const std::string index = index_of(*counters);
  RD_ASSERT(index.size() < kPageBytes);
  std::memcpy(memory, index.data(), index.size());
  std::rename(unfinished.c_str(), path.c_str());
  return {counters, [memory](QueueCounters*) { ::munmap(memory, kPageFileBytes); }};
}

}  // namespace ringdisk
