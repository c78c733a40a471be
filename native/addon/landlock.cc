// SPDX-License-Identifier: Apache-2.0
// By number, since the headers of a build may be older than the kernel it runs on.
#include "addon/landlock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

#include "base/fd.h"

namespace ringdisk {
namespace {

constexpr long kCreateRuleset = 444;
constexpr long kAddRule = 445;
constexpr long kRestrictSelf = 446;

// landlock(7): rights to files by bit, and since which version of the interface there are so many.
constexpr uint64_t kExecute = 1u << 0;
constexpr uint64_t kWriteFile = 1u << 1;
constexpr uint64_t kReadFile = 1u << 2;
constexpr uint64_t kReadDir = 1u << 3;
constexpr uint64_t kRemoveFile = 1u << 5;
constexpr uint64_t kMakeRegular = 1u << 8;
constexpr uint64_t kMakeSocket = 1u << 9;
constexpr uint64_t kTruncate = 1u << 14;
constexpr uint64_t kDeviceIoctl = 1u << 15;

constexpr uint64_t kToRead = kExecute | kReadFile | kReadDir | kDeviceIoctl;
constexpr uint64_t kToWrite = kReadFile | kWriteFile | kTruncate | kDeviceIoctl;
constexpr uint64_t kToMake = kToWrite | kReadDir | kRemoveFile | kMakeRegular | kMakeSocket;
constexpr uint64_t kOfAFile = kExecute | kToWrite;

constexpr uint64_t kTcp = 0b11;
// Signals and abstract UNIX sockets of processes that are not confined so.
constexpr uint64_t kOthers = 0b11;

constexpr int kTruncateSince = 3;
constexpr int kTcpSince = 4;
constexpr int kDeviceIoctlSince = 5;
constexpr int kOthersSince = 6;

struct Ruleset {
  uint64_t files = 0;
  uint64_t network = 0;
  uint64_t scoped = 0;
};

struct [[gnu::packed]] Beneath {
  uint64_t allowed = 0;
  int32_t parent = -1;
};

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

uint64_t files_of(long version) {
  if (version >= kDeviceIoctlSince) return (1u << 16) - 1;
  if (version >= kTruncateSince) return (1u << 15) - 1;
  return version == 2 ? (1u << 14) - 1 : (1u << 13) - 1;
}

void allow(int ruleset, uint64_t known, const std::string& path, uint64_t rights) {
  Fd place(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status{};
  if (place.get() < 0 || ::fstat(place.get(), &status) != 0) return;
  Beneath rule;
  rule.allowed = rights & known & (S_ISDIR(status.st_mode) ? ~uint64_t{0} : kOfAFile);
  rule.parent = place.get();
  constexpr int kPathBeneath = 1;
  if (::syscall(kAddRule, ruleset, kPathBeneath, &rule, 0) != 0) fail("cannot allow " + path);
}

}  // namespace

void confine_to(const Allowance& allowance) {
  constexpr unsigned kVersion = 1;
  const long version = ::syscall(kCreateRuleset, nullptr, 0, kVersion);
  if (version < 1) return;
  Ruleset rules;
  rules.files = files_of(version);
  if (version >= kTcpSince && !allowance.network) rules.network = kTcp;
  if (version >= kOthersSince) rules.scoped = kOthers;
  Fd ruleset(static_cast<int>(::syscall(kCreateRuleset, &rules, sizeof rules, 0)));
  if (ruleset.get() < 0) fail("cannot make a Landlock ruleset");
  for (const auto& path : allowance.readable) allow(ruleset.get(), rules.files, path, kToRead);
  for (const auto& path : allowance.writable) allow(ruleset.get(), rules.files, path, kToWrite);
  for (const auto& path : allowance.folders) allow(ruleset.get(), rules.files, path, kToMake);
  if (::syscall(kRestrictSelf, ruleset.get(), 0) != 0) fail("cannot confine this process");
}

}  // namespace ringdisk
