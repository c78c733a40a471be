// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/machine.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace ringdisk {

namespace {
// The guest may change the word as often as it likes; Xen too gives up after a few tries.
constexpr int kTakeTries = 16;
}  // namespace

int GrantEntry::take_use(bool writable, uint32_t& page_index) {
  uint32_t seen = state.load(std::memory_order_acquire);
  for (int tries = 0; tries < kTakeTries; tries++) {
    if (!(seen & kGranted)) return -EINVAL;
    if (writable && (seen & kReadonly)) return -EACCES;
    if (seen > UINT32_MAX - kOneUse) return -EINVAL;
    if (state.compare_exchange_weak(seen, seen + kOneUse, std::memory_order_acquire)) {
      page_index = page.load(std::memory_order_relaxed);
      return 0;
    }
  }
  return -EINVAL;
}

std::string domain_dir(const std::string& machine_dir, Domid domid) {
  return machine_dir + "/dom" + std::to_string(domid);
}

std::string memory_path(const std::string& domain_dir) { return domain_dir + "/memory"; }

std::string grants_path(const std::string& domain_dir) { return domain_dir + "/grants"; }

std::string to_backend_path(const std::string& domain_dir, Port port) {
  return domain_dir + "/port" + std::to_string(port) + ".to_backend";
}

std::string to_frontend_path(const std::string& domain_dir, Port port) {
  return domain_dir + "/port" + std::to_string(port) + ".to_frontend";
}

Fd open_fifo(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return Fd();
  if (!S_ISFIFO(status.st_mode)) {
    errno = EINVAL;
    return Fd();
  }
  // Only a smaller bound on how much there is to drain: no harm where it is refused.
  ::fcntl(fd.get(), F_SETPIPE_SZ, kLoopbackFifoBytes);
  return fd;
}

void raise_event(int fifo) {
  const char event = 1;
  [[maybe_unused]] const ssize_t written = ::write(fifo, &event, 1);
}

bool drain_events(int fifo) {
  char events[kLoopbackFifoBytes];
  return ::read(fifo, events, sizeof(events)) > 0;
}

}  // namespace ringdisk
