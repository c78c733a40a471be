// SPDX-License-Identifier: Apache-2.0
// A lock on another open file stands for the I/O a dead process left in the kernel: to the fence
// they are the same thing.
#include "medium/claim.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/fd.h"
#include "engine_driver.h"
#include "needs_uring.h"

namespace ringdisk {
namespace {

using namespace std::chrono_literals;

class Predecessor {
 public:
  explicit Predecessor(const std::string& path)
      : fd_(Fd::checked(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), path)) {
    REQUIRE(::ftruncate(fd_.get(), 1 << 20) == 0);
    REQUIRE(::flock(fd_.get(), LOCK_EX) == 0);
  }
  void last_write_lands() { fd_.reset(); }

 private:
  Fd fd_;
};

TEST_CASE("fence: while a dead process may still write, reads run and everything else waits") {
  if (!has_io_uring()) return;
  EngineDriver driver;
  const std::string path = driver.dir() + "/disk";
  Predecessor predecessor(path);
  const EngineEvent opened = driver.open({.kind = "file", .path = path}, {.take_over = true});
  CHECK(opened.fenced);
  driver.connect(opened.value);

  driver.submit(wire::kWrite, 1, 0);
  driver.submit(wire::kFlushDiskcache, 2, 0);
  driver.submit(wire::kDiscard, 3, 8);
  driver.submit(wire::kRead, 4, 0);
  CHECK(driver.answers(1) == std::vector<uint64_t>{4});
  // Long enough for the reactor to fall asleep, with nothing left that would wake it but the fence.
  CHECK(driver.silent_for(50ms));
  predecessor.last_write_lands();
  driver.wait_for(EngineEvent::Type::fence_lifted);
  std::vector<uint64_t> rest = driver.answers(3);
  std::ranges::sort(rest);
  CHECK(rest == std::vector<uint64_t>{1, 2, 3});

  driver.submit(wire::kWrite, 5, 0);
  CHECK(driver.answers(1) == std::vector<uint64_t>{5});
}

TEST_CASE("fence: a disconnect waits for it too, and loses nothing") {
  if (!has_io_uring()) return;
  EngineDriver driver;
  const std::string path = driver.dir() + "/disk";
  Predecessor predecessor(path);
  driver.connect(driver.open({.kind = "file", .path = path}, {.take_over = true}).value);
  driver.submit(wire::kWrite, 1, 0);
  CHECK(driver.silent_for(50ms));
  std::thread later([&predecessor] {
    std::this_thread::sleep_for(50ms);
    predecessor.last_write_lands();
  });
  driver.disconnect();
  CHECK(driver.answers(1) == std::vector<uint64_t>{1});
  later.join();
}

TEST_CASE("claim: two readers share a file, a writer shares it with nobody") {
  TempMachine machine;
  const std::string path = machine.dir() + "/disk";
  const auto open_file = [&path] { return Fd(::open(path.c_str(), O_RDWR | O_CREAT, 0600)); };
  const Fd first = open_file(), second = open_file(), third = open_file();
  const auto pending = [&path](const Fd& fd, bool read_only) {
    Claim claim(fd.get(), path, read_only, "");
    claim.take({.take_over = true});
    return claim.pending();
  };
  CHECK_FALSE(pending(first, true));
  CHECK_FALSE(pending(second, true));
  CHECK(pending(third, false));
}

TEST_CASE("claim: who shares excludes nobody, but waits for a dead writer") {
  TempMachine machine;
  const std::string path = machine.dir() + "/disk";
  const auto open_file = [&path] { return Fd(::open(path.c_str(), O_RDWR | O_CREAT, 0600)); };
  const Fd first = open_file(), second = open_file();
  Claim one(first.get(), path, false, "");
  one.take({.share = true});
  Claim two(second.get(), path, false, "");
  two.take({.share = true, .take_over = true});
  CHECK(two.pending());  // it might be a dead one's
  two.wait();            // as long as may be
  CHECK_FALSE(two.pending());
  CHECK(two.warning().find("shared") != std::string::npos);
}

TEST_CASE("claim: nobody is waited for for ever unless there is something to take over") {
  TempMachine machine;
  const std::string path = machine.dir() + "/disk";
  Predecessor other(path);
  const Fd mine(::open(path.c_str(), O_RDWR));
  Claim claim(mine.get(), path, false, "");
  const auto started = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH_AS(claim.take({}), doctest::Contains("another process uses it"),
                       std::system_error);
  CHECK(std::chrono::steady_clock::now() - started < 20s);
}

}  // namespace
}  // namespace ringdisk
