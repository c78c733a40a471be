// SPDX-License-Identifier: Apache-2.0
#include "target/fence.h"

#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

namespace ringdisk {
namespace {

// libxl waits 10 s for a backend; the user of a disk that was just destroyed is gone before.
constexpr auto kPatience = std::chrono::seconds(5);
constexpr auto kRetry = std::chrono::milliseconds(20);

bool try_lock(int fd, int operation, const std::string& path) {
  if (::flock(fd, operation | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK || errno == EINTR) return false;
  throw std::system_error(errno, std::generic_category(), "cannot lock " + path);
}

}  // namespace

Fence::Fence(int fd, const std::string& path, bool read_only, bool take_over)
    : fd_(fd), path_(path), operation_(read_only ? LOCK_SH : LOCK_EX) {
  if (try_lock(fd_, operation_, path_)) return;
  if (take_over) {
    pending_ = true;
    return;
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!try_lock(fd_, operation_, path_)) {
    if (std::chrono::steady_clock::now() >= deadline)
      throw std::system_error(EBUSY, std::generic_category(),
                              "cannot serve " + path_ + ": another process or VBD " +
                                  (read_only ? "writes to it" : "uses it") +
                                  " (ringdisk list, lsof and lslocks tell which)");
    std::this_thread::sleep_for(kRetry);
  }
}

void Fence::wait() {
  if (!pending()) return;
  while (::flock(fd_, operation_) != 0) {
    if (errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "cannot lock " + path_);
  }
  pending_.store(false, std::memory_order_release);
}

}  // namespace ringdisk
