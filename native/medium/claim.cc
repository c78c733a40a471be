// SPDX-License-Identifier: Apache-2.0
#include "medium/claim.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace ringdisk {
namespace {

using Clock = std::chrono::steady_clock;

// libxl waits 10 s for a backend; the user of a disk that was just destroyed is gone before.
constexpr auto kPatience = std::chrono::seconds(5);
constexpr auto kRetry = std::chrono::milliseconds(20);
// Others who share the medium hold the lock as long as they live: it can't tell for ever whether
// one of them is dead.
constexpr auto kSharedPatience = std::chrono::seconds(10);

bool has_no_locks(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

}  // namespace

Claim::Claim(int fd, std::string path, bool read_only, std::string exclusive_path)
    : fd_(fd),
      path_(std::move(path)),
      read_only_(read_only),
      exclusive_path_(std::move(exclusive_path)) {}

void Claim::take(const ClaimOptions& options) {
  share_ = options.share;
  take_over_ = options.take_over;
  if (try_both()) return;
  if (options.take_over) {
    pending_ = true;
    return;
  }
  const auto deadline = Clock::now() + kPatience;
  while (!try_both()) {
    if (Clock::now() >= deadline) refuse();
    std::this_thread::sleep_for(kRetry);
  }
}

void Claim::wait() {
  const auto deadline = Clock::now() + kSharedPatience;
  while (!try_both()) {
    if (share_ && Clock::now() >= deadline) {
      warning_ = path_ +
                 " is shared, and another process keeps it open: whether I/O of a dead one "
                 "is still under way cannot be told";
      ::flock(fd_, LOCK_SH | LOCK_NB);
      locked_ = true;
      break;
    }
    std::this_thread::sleep_for(kRetry);
  }
  pending_ = false;
}

bool Claim::try_both() { return try_lock() && try_exclusive(); }

int Claim::held_mode() const {
  const bool shared = read_only_ || share_ || !exclusive_path_.empty();
  return shared ? LOCK_SH : LOCK_EX;
}

// Who writes has had the lock exclusively, if only for a moment; but who shares the medium with the
// living only where somebody has died.
bool Claim::try_lock() {
  if (locked_) return true;
  if (read_only_ && !exclusive_path_.empty()) return locked_ = true;
  const int first = read_only_ || (share_ && !take_over_) ? LOCK_SH : LOCK_EX;
  if (::flock(fd_, first | LOCK_NB) == 0) {
    if (first != held_mode()) ::flock(fd_, held_mode() | LOCK_NB);
    return locked_ = true;
  }
  if (errno == EWOULDBLOCK || errno == EINTR) return false;
  if (!has_no_locks(errno))
    throw std::system_error(errno, std::generic_category(), "cannot lock " + path_);
  warning_ = "the file system of " + path_ +
             " has no locks: nothing keeps a second writer off it, nor a dead daemon's last I/O "
             "from landing late";
  return locked_ = true;
}

bool Claim::try_exclusive() {
  if (read_only_ || share_ || exclusive_path_.empty() || exclusive_.valid()) return true;
  exclusive_ = Fd(::open(exclusive_path_.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  if (exclusive_.valid()) return true;
  if (errno == EBUSY) return false;
  throw std::system_error(errno, std::generic_category(), "cannot claim " + path_);
}

void Claim::refuse() const {
  const char* why = locked_
                        ? ": something else holds it (a mount, swap, a volume group, a RAID, or "
                          "another backend; lsblk and lsof tell which)"
                        : ": another process uses it (ringdisk list, lsof and lslocks tell which)";
  throw std::system_error(EBUSY, std::generic_category(),
                          "cannot serve " + path_ + (read_only_ ? "" : " for writing") + why);
}

}  // namespace ringdisk
