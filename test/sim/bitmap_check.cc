// SPDX-License-Identifier: Apache-2.0
// Between two lives: whatever has changed on the disk since its bitmap was made is marked there.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>

#include "base/bitmap.h"
#include "random.h"
#include "run.h"

namespace ringdisk::sim {
namespace {

constexpr uint32_t kGranularity = 4096;
constexpr uint32_t kChance = 20;  // percent of the cycles that begin with a new bitmap
constexpr int kTries = 10'000;

// When the dead one's worker has let go of it: a copy of a disk that is still being written, and a
// bitmap of what is written later, would miss that.
std::string content_of(const std::string& disk) {
  const Fd file = Fd::checked(::open(disk.c_str(), O_RDONLY | O_CLOEXEC), disk);
  for (int tries = 0; ::flock(file.get(), LOCK_EX | LOCK_NB) != 0; tries++) {
    if (tries == kTries) throw Violation("the dead backend's worker does not let go of the disk");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::string content(std::filesystem::file_size(disk), '\0');
  std::ifstream(disk, std::ios::binary).read(content.data(), std::ssize(content));
  return content;
}

}  // namespace

void Run::renew_bitmap() {
  std::filesystem::remove(bitmap_);
  before_ = content_of(target_);
  Bitmap::create(bitmap_, before_.size(), kGranularity, "");
}

void Run::check_bitmap(uint64_t cycle) {
  const std::string now = content_of(target_);
  const Bitmap bitmap(bitmap_);
  for (uint64_t at = 0; at < now.size(); at += kGranularity) {
    const bool is_same = now.compare(at, kGranularity, before_, at, kGranularity) == 0;
    if (bitmap.is_set(at)) continue;
    if (!is_same) throw Violation("the change at " + std::to_string(at) + " is not marked");
    result_.clear_chunks++;
  }
  if (Random(options_.seed, Random::Stream::bitmap, cycle).percent(kChance)) renew_bitmap();
}

}  // namespace ringdisk::sim
