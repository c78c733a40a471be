// SPDX-License-Identifier: Apache-2.0
#include "medium/make_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace ringdisk {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void allocate(int fd, const MediumSpec& spec) {
  const auto bytes = static_cast<off_t>(spec.create_bytes);
  if (::fallocate(fd, 0, 0, bytes) == 0) return;
  const bool is_unknown = errno == EOPNOTSUPP || errno == ENOSYS;
  if (!is_unknown || ::ftruncate(fd, bytes) != 0) fail("cannot allocate " + spec.path);
}

// The name, too, is durable only when its folder is.
void make_durable(int fd, const std::string& path) {
  if (::fsync(fd) != 0) fail("cannot flush " + path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const Fd opened = Fd::checked(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                                "cannot open the folder " + folder);
  if (::fsync(opened.get()) != 0 && errno != EINVAL) fail("cannot flush the folder " + folder);
}

}  // namespace

decltype(MediumFacts::head) make_file(const MediumSpec& spec) {
  const int how = spec.read_only ? O_RDONLY : O_RDWR | O_CREAT;
  const Fd fd =
      Fd::checked(::open(spec.path.c_str(), how | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600),
                  "cannot open " + spec.path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) fail("cannot read the size of " + spec.path);
  if (!spec.read_only && S_ISREG(status.st_mode) && status.st_size == 0) {
    allocate(fd.get(), spec);
    make_durable(fd.get(), spec.path);
  }
  decltype(MediumFacts::head) head{};
  if (::pread(fd.get(), head.data(), head.size(), 0) < 0) fail("cannot read " + spec.path);
  return head;
}

}  // namespace ringdisk
