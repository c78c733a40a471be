// SPDX-License-Identifier: Apache-2.0
// Opening, refusing and re-reading the size, kind by kind.
#include <doctest/doctest.h>

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "base/fd.h"
#include "eventually.h"
#include "medium/probe.h"
#include "target_driver.h"
#include "targets/target.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

struct Refusal {
  int error = 0;  // errno; EINVAL for std::invalid_argument
  std::string message;
};

Refusal refusal_of(const TargetSpec& spec) {
  try {
    open_target(spec);
  } catch (const std::system_error& error) {
    return {error.code().value(), error.what()};
  } catch (const std::invalid_argument& error) {
    return {EINVAL, error.what()};
  }
  return {};
}

bool mentions(const Refusal& refusal, const std::string& text) {
  return refusal.message.find(text) != std::string::npos;
}

TEST_CASE("open target: an unknown kind names the known ones") {
  const Refusal refusal = refusal_of({"floppy", "/dev/fd0"});
  CHECK(refusal.error == EINVAL);
  CHECK(mentions(refusal, "floppy"));
  CHECK(mentions(refusal, "nvme"));
}

TEST_CASE("open target: a missing path is in the sentence") {
  for (const char* kind : {"file", "block", "nvme"}) {
    const Refusal refusal = refusal_of({kind, "/nonexistent/disk"});
    CHECK(refusal.error == ENOENT);
    CHECK(mentions(refusal, "/nonexistent/disk"));
    CHECK(mentions(refusal, kind));
  }
}

TEST_CASE("open target: the wrong kind of file says what it is") {
  const TempFile file(disk_folder(), kMebibyte);
  CHECK(mentions(refusal_of({"block", file.path()}), "use a file target"));
  CHECK(mentions(refusal_of({"nvme", file.path()}), "use a file target"));
  CHECK(mentions(refusal_of({"file", "/dev/null"}), "character device"));
  CHECK(mentions(refusal_of({"file", "/"}), "a directory"));
  CHECK(refusal_of({"nvme", "/dev/null"}).error != 0);
}

TEST_CASE("open target: an empty file is refused, all bytes of an odd one are there") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), 0);
  CHECK(mentions(refusal_of({"file", file.path()}), "it is empty"));
  for (const std::string& folder : {std::string("/dev/shm"), disk_folder()}) {
    CAPTURE(folder);
    TempFile odd(folder, 64 * 1024 + 3 * 512 + 100);
    const std::unique_ptr<Target> target = open_target({"file", odd.path()});
    CHECK(target->capabilities().capacity == 64 * 1024 + 4 * 512);
    TargetDriver driver(*target);
    TestMemory memory(4096);
    memory.fill(6);
    // The last block as a queue asks for it: whole blocks of the medium.
    const uint64_t unit = target->capabilities().io_alignment;
    const uint64_t end = (target->capabilities().capacity + unit - 1) / unit * unit;
    REQUIRE(driver.write(end - 4096, memory) == 0);
    CHECK(odd.bytes() <= 64 * 1024 + 4 * 512);
    CHECK(driver.read(end - 4096, memory) == 0);
    TestMemory expected(4096);
    expected.fill(6);
    const size_t there = 4096 - (end - target->capabilities().capacity);
    CHECK(std::memcmp(memory.bytes().data(), expected.bytes().data(), there) == 0);
    CHECK(driver.flush() == 0);
  }
}

TEST_CASE("open target: a bare path is whatever it is") {
  const TempFile file(disk_folder(), kMebibyte);
  CHECK(open_only({"auto", file.path()})->facts().kind == MediumKind::file);
  CHECK(mentions(refusal_of({"auto", "/dev/null"}), "character device"));
  CHECK(refusal_of({"auto", "/nonexistent/disk"}).error == ENOENT);
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  if (loop) CHECK(open_only({"auto", loop->path()})->facts().kind == MediumKind::block);
}

TEST_CASE("open target: the same medium has the same identity, another one has not") {
  const TempFile file(disk_folder(), kMebibyte);
  const TempFile other(disk_folder(), kMebibyte);
  const auto identity = [](const std::string& path) {
    return std::string(open_only({"auto", path})->facts().identity.data());
  };
  CHECK(identity(file.path()) == identity(file.path()));
  CHECK(identity(file.path()) != identity(other.path()));
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  std::optional<LoopDevice> loop2 = LoopDevice::create(kMebibyte);
  if (!loop || !loop2) return;
  CHECK(identity(loop->path()) == identity(loop->path()));
  CHECK(identity(loop->path()) != identity(loop2->path()));
}

TEST_CASE("find medium: in the words of the target that is opened there") {
  const auto both_say_the_same = [](const std::string& path, bool is_device) {
    const FoundMedium found = find_medium(path);
    CHECK(found.identity == open_only({"auto", path, true})->facts().identity.data());
    CHECK(found.is_device == is_device);
  };
  both_say_the_same(TempFile(disk_folder(), kMebibyte).path(), false);
  if (is_tmpfs("/dev/shm")) both_say_the_same(TempFile("/dev/shm", kMebibyte).path(), false);
  CHECK_THROWS_AS(find_medium("/dev/null"), std::invalid_argument);
  CHECK_THROWS_AS(find_medium("/nonexistent/disk"), std::system_error);
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  if (loop) both_say_the_same(loop->path(), true);
}

TEST_CASE("open target: the null target's capacity") {
  CHECK(open_target({"null", "1048576"})->capabilities().capacity == kMebibyte);
  for (const char* text : {"", "0", "513", "-512", "1G", "512 ", "99999999999999999999999"}) {
    CHECK(refusal_of({"null", text}).error == EINVAL);
  }
}

TEST_CASE("null target: read-only refuses what a disk would refuse") {
  if (!has_uring()) return;
  const std::unique_ptr<Target> target = open_target({"null", "1048576", true});
  CHECK_FALSE(target->capabilities().discard);
  TargetDriver driver(*target);
  TestMemory memory(4096);
  CHECK(driver.read(0, memory) == 0);
  CHECK(driver.write(0, memory) == -EROFS);
  CHECK(driver.discard(0, 4096) == -EOPNOTSUPP);
  CHECK(driver.flush() == 0);
}

TEST_CASE("file target: direct where the file system takes it, and honest where not") {
  if (!is_tmpfs("/dev/shm")) return skip("/dev/shm is no tmpfs");
  const TempFile file("/dev/shm", kMebibyte);
  CHECK_FALSE(open_target({"file", file.path()})->capabilities().direct);
}

TEST_CASE("file target: a discard gives its blocks back to the file system") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), 16 * kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path()});
  if (!target->capabilities().discard) return skip("no holes on this file system");
  TargetDriver driver(*target);
  TestMemory memory(kMebibyte);
  memory.fill(3);
  for (uint64_t i = 0; i < 16; i++) REQUIRE(driver.write(i * kMebibyte, memory) == 0);
  REQUIRE(driver.flush() == 0);
  const uint64_t full = file.allocated_bytes();
  CHECK(full >= 16 * kMebibyte);
  REQUIRE(driver.discard(4 * kMebibyte, 8 * kMebibyte) == 0);
  CHECK(full - file.allocated_bytes() >= 8 * kMebibyte);
}

TEST_CASE("file target: a file that grew or shrank") {
  if (!has_uring()) return;
  TempFile file(disk_folder(), kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path()});
  TargetDriver driver(*target);
  TestMemory memory(65536);
  memory.fill(4);
  file.resize(2 * kMebibyte);
  CHECK(target->capabilities().capacity == kMebibyte);
  measure_now(*target);
  CHECK(target->capabilities().capacity == 2 * kMebibyte);
  CHECK(driver.write(2 * kMebibyte - 65536, memory) == 0);
  CHECK(driver.read(2 * kMebibyte - 65536, memory) == 0);
  CHECK(memory.matches(4));
  // Behind our back: half of the read is there, then nothing comes.
  file.resize(2 * kMebibyte - 32768);
  CHECK(driver.read(2 * kMebibyte - 65536, memory) == -EIO);
  measure_now(*target);
  CHECK(target->capabilities().capacity == 2 * kMebibyte - 32768);
}

TEST_CASE("file target: read-only reads and refuses everything else") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path(), true});
  CHECK(target->capabilities().read_only);
  CHECK_FALSE(target->capabilities().discard);
  TargetDriver driver(*target);
  TestMemory memory(4096);
  CHECK(driver.read(0, memory) == 0);
  CHECK(memory.is_zero());
  CHECK(driver.write(0, memory) == -EBADF);
  CHECK(driver.discard(0, 4096) == -EOPNOTSUPP);
  CHECK(driver.flush() == 0);
}

TEST_CASE("file target: a full file system is reported as such") {
  if (!has_uring()) return;
  const SmallFileSystem fs(256 * 1024);
  if (!fs.mounted()) return;
  const TempFile file(fs.folder(), 4 * kMebibyte);
  const std::unique_ptr<Target> target = open_target({"file", file.path()});
  TargetDriver driver(*target);
  TestMemory memory(kMebibyte);
  memory.fill(1);
  // The first part of it fits: a short transfer, then the error.
  CHECK(driver.write(0, memory) == -ENOSPC);
  REQUIRE(driver.discard(0, 4 * kMebibyte) == 0);
  TestMemory small(65536);
  CHECK(driver.write(0, small) == 0);
}

TEST_CASE("block target: one writer or many readers") {
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  if (!loop) return;
  {
    const std::unique_ptr<Target> reader = open_target({"block", loop->path(), true});
    const std::unique_ptr<Target> another = open_target({"block", loop->path(), true});
    CHECK(reader->capabilities().read_only);
    CHECK_FALSE(reader->capabilities().discard);
  }
  const std::unique_ptr<Target> writer = open_target({"block", loop->path()});
  const Refusal refusal = refusal_of({"block", loop->path()});
  CHECK(refusal.error == EBUSY);
  CHECK(mentions(refusal, loop->path()));
  // Who is asked to share does.
  CHECK_FALSE(open_target({"block", loop->path()}, {.share = true})->fenced());
}

TEST_CASE("block target: refuses what something else holds") {
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte);
  if (!loop) return;
  const Fd mount(open(loop->path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  REQUIRE(mount.valid());
  const Refusal refusal = refusal_of({"block", loop->path()});
  CHECK(refusal.error == EBUSY);
  CHECK(mentions(refusal, "lsblk"));
}

TEST_CASE(
    "fence: a successor waits for the predecessor's open file, and is not fenced without one") {
  const TempFile file(disk_folder(), kMebibyte);
  std::unique_ptr<Target> old = open_target({"file", file.path()});
  CHECK_FALSE(old->fenced());
  const std::unique_ptr<Target> taken = open_target({"file", file.path()}, {.take_over = true});
  CHECK(taken->fenced());
  close_now(std::move(old));
  CHECK(eventually([&] { return !taken->fenced(); }));
}

TEST_CASE("block target: probes its blocks and sees it grow") {
  std::optional<LoopDevice> loop = LoopDevice::create(kMebibyte, 4096);
  if (!loop) return;
  const std::unique_ptr<Target> target = open_target({"block", loop->path()});
  CHECK(target->capabilities().capacity == kMebibyte);
  CHECK(target->capabilities().io_alignment == 4096);
  CHECK(target->capabilities().physical_block >= 4096);
  CHECK(target->capabilities().direct);
  loop->grow(2 * kMebibyte);
  measure_now(*target);
  CHECK(target->capabilities().capacity == 2 * kMebibyte);
}

}  // namespace
}  // namespace ringdisk
