// SPDX-License-Identifier: Apache-2.0
#include "base/kill_point.h"

#ifdef RINGDISK_KILL_POINTS

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace ringdisk {

void kill_point(const char* name) {
  static const char* const wanted = std::getenv("RINGDISK_KILL_POINT");
  static const char* const count = std::getenv("RINGDISK_KILL_COUNT");
  static std::atomic<long> left{count ? std::atol(count) : 1};
  if (!wanted || std::strcmp(wanted, name) != 0) return;
  if (--left == 0) ::kill(::getpid(), SIGKILL);
}

bool planted(const char* name) {
  static const char* const wanted = std::getenv("RINGDISK_PLANT");
  return wanted && std::strcmp(wanted, name) == 0;
}

void poison(uint64_t sector) {
  constexpr uint64_t kPoisoned = uint64_t{8} * 666;
  if (sector == kPoisoned && planted("poison")) std::abort();
}

}  // namespace ringdisk

#endif
