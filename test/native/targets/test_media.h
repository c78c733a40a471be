// SPDX-License-Identifier: Apache-2.0
// Media for target tests that leave nothing behind.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "base/fd.h"
#include "io/uring.h"

namespace ringdisk {

// A test that cannot run here says why.
inline void skip(const std::string& reason) { MESSAGE("skipped: ", reason); }

// Prints why when not.
inline bool has_uring() {
  const UringFeatures features = probe_uring();
  if (!features.available) skip(std::string("no io_uring: ") + std::strerror(features.error));
  return features.available;
}

// Where temporary files usually are.
inline std::string disk_folder() { return std::filesystem::temp_directory_path().string(); }

// A sparse file of its own in `folder`, removed at the end.
class TempFile {
 public:
  TempFile(const std::string& folder, uint64_t bytes);
  ~TempFile();
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }
  void resize(uint64_t bytes);
  uint64_t allocated_bytes() const;
  uint64_t bytes() const;

 private:
  std::string path_;
  Fd fd_;
};

// A loop device over a file of memory; the kernel detaches it when the last descriptor closes, even
// if the test dies.
class LoopDevice {
 public:
  // Nothing, with a printed reason, where loop devices cannot be made.
  static std::optional<LoopDevice> create(uint64_t bytes, uint32_t block_bytes = 512);

  LoopDevice(LoopDevice&&) = default;
  LoopDevice& operator=(LoopDevice&&) = delete;
  ~LoopDevice() = default;

  const std::string& path() const { return path_; }
  void grow(uint64_t bytes);
  uint64_t allocated_bytes() const;

 private:
  LoopDevice() = default;
  Fd backing_;
  Fd fd_;
  std::string path_;
};

// A tmpfs of `bytes` mounted on a folder of its own.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(uint64_t bytes);
  ~SmallFileSystem();
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  bool mounted() const { return mounted_; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  bool mounted_;
};

inline uint64_t allocated_bytes_of(int fd) {
  struct stat status{};
  REQUIRE(fstat(fd, &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

inline constexpr int kLoopAttempts = 8;  // somebody else may take the free one first

inline TempFile::TempFile(const std::string& folder, uint64_t bytes)
    : path_(folder + "/rd-test-XXXXXX") {
  fd_ = Fd::checked(mkostemp(path_.data(), O_CLOEXEC), "mkostemp " + path_);
  resize(bytes);
}

inline TempFile::~TempFile() { unlink(path_.c_str()); }

inline void TempFile::resize(uint64_t bytes) {
  REQUIRE(ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
}

inline uint64_t TempFile::bytes() const {
  struct stat status{};
  REQUIRE(fstat(fd_.get(), &status) == 0);
  return static_cast<uint64_t>(status.st_size);
}

inline uint64_t TempFile::allocated_bytes() const { return allocated_bytes_of(fd_.get()); }

inline std::optional<LoopDevice> LoopDevice::create(uint64_t bytes, uint32_t block_bytes) {
  LoopDevice loop;
  loop.backing_ = Fd::checked(memfd_create("rd-test", MFD_CLOEXEC), "memfd_create");
  REQUIRE(ftruncate(loop.backing_.get(), static_cast<off_t>(bytes)) == 0);
  const Fd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  for (int attempt = 0; control.valid() && attempt < kLoopAttempts; attempt++) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) break;
    loop.path_ = "/dev/loop" + std::to_string(number);
    loop.fd_ = Fd(open(loop.path_.c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<uint32_t>(loop.backing_.get());
    config.block_size = block_bytes;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (ioctl(loop.fd_.get(), LOOP_CONFIGURE, &config) == 0) return loop;
  }
  skip(std::string("cannot make a loop device: ") + std::strerror(errno));
  return std::nullopt;
}

inline void LoopDevice::grow(uint64_t bytes) {
  REQUIRE(ftruncate(backing_.get(), static_cast<off_t>(bytes)) == 0);
  REQUIRE(ioctl(fd_.get(), LOOP_SET_CAPACITY) == 0);
}

inline uint64_t LoopDevice::allocated_bytes() const { return allocated_bytes_of(backing_.get()); }

inline SmallFileSystem::SmallFileSystem(uint64_t bytes)
    : folder_(disk_folder() + "/rd-test-XXXXXX") {
  REQUIRE(mkdtemp(folder_.data()) != nullptr);
  const std::string options = "size=" + std::to_string(bytes);
  mounted_ = mount("ringdisk-test", folder_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  if (!mounted_) skip(std::string("cannot mount a tmpfs: ") + std::strerror(errno));
}

inline SmallFileSystem::~SmallFileSystem() {
  if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
  rmdir(folder_.c_str());
}

inline bool is_tmpfs(const std::string& folder) {
  struct statfs fs{};
  return statfs(folder.c_str(), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

}  // namespace ringdisk
