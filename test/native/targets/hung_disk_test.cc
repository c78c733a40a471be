// SPDX-License-Identifier: Apache-2.0
// A disk that stops answering while more is asked of it than it has requests: nobody but the
// target's worker waits for one to come free. The disk is a loop device over a file whose FUSE
// server is stopped.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <thread>
#include <vector>

#include "target_driver.h"
#include "test_media.h"

extern char** environ;

namespace ringdisk {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kBytes = 16u << 20;
constexpr size_t kOperations = 400;  // a loop device has 128 requests

bool run(const std::string& command) { return std::system(command.c_str()) == 0; }

bool eventually(const std::string& command) {
  for (int i = 0; i < 200; i++) {
    if (run(command)) return true;
    std::this_thread::sleep_for(milliseconds(50));
  }
  return false;
}

class HangingDisk {
 public:
  HangingDisk() {
    if (::geteuid() != 0 || !run("which bindfs losetup >/dev/null")) return;
    REQUIRE(mkdtemp(folder_.data()) != nullptr);
    REQUIRE(run("cd " + folder_ + " && mkdir behind shown mnt && truncate -s 400M behind/disk"));
    const std::string behind = folder_ + "/behind";
    const std::string shown = folder_ + "/shown";
    const char* arguments[] = {"bindfs",       "-f",          "--no-allow-other",
                               behind.c_str(), shown.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int error = ::posix_spawnp(&server_, "bindfs", &actions, nullptr,
                                     const_cast<char* const*>(arguments), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return;
    ready_ = eventually("mountpoint -q " + shown) &&
             run("cd " + folder_ + " && losetup --find --show shown/disk >device");
    std::ifstream(folder_ + "/device") >> device_;
  }
  ~HangingDisk() {
    if (server_ == 0) return;
    go_on();
    if (run("mountpoint -q " + folder())) eventually("umount " + folder() + " 2>/dev/null");
    if (ready_) eventually("losetup -d " + device_ + " 2>/dev/null");
    eventually("umount " + folder_ + "/shown 2>/dev/null");
    ::waitpid(server_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  HangingDisk(const HangingDisk&) = delete;
  HangingDisk& operator=(const HangingDisk&) = delete;

  const std::string& device() const { return device_; }
  std::string folder() const { return folder_ + "/mnt"; }
  bool ready() const { return ready_; }
  bool mount(const std::string& type) const {
    return run("which mkfs." + type + " >/dev/null && mkfs." + type + " -q " + device_ +
               " && mount " + device_ + " " + folder());
  }
  void hang() const {
    // What this machine has in memory would be answered all the same.
    run("sync " + device_ + " && dd if=" + folder_ +
        "/shown/disk iflag=nocache count=0 status=none");
    ::kill(server_, SIGSTOP);
  }
  void go_on() const { ::kill(server_, SIGCONT); }

 private:
  std::string folder_ = "/dev/shm/rd-test-XXXXXX";
  std::string device_;
  pid_t server_ = 0;
  bool ready_ = false;
};

// What a reactor does with many operations that come at once.
void check_nobody_waits(const HangingDisk& disk, const TargetSpec& spec, Operation::Kind kind) {
  std::unique_ptr<Target> target = open_target(spec);
  auto driver = std::make_unique<TargetDriver>(*target);
  TestMemory memory(4096);
  std::vector<Operation> all(kOperations);
  disk.hang();
  std::promise<void> submitted;
  std::thread rescue([&, is = submitted.get_future()] {
    is.wait_for(std::chrono::seconds(3));
    disk.go_on();
  });
  const auto before = Clock::now();
  for (size_t i = 0; i < all.size(); i++) {
    all[i] = TargetDriver::transfer(kind, i * (kBytes / kOperations / 4096 * 4096), memory);
    CHECK_FALSE(driver->channel().start(all[i]));
  }
  driver->lanes().ring();
  driver->uring().submit();
  CHECK(Clock::now() - before < std::chrono::seconds(1));
  submitted.set_value();
  rescue.join();
  CHECK(driver->finish_all() == all.size());
  driver.reset();
  close_now(std::move(target));
}

void check_file_on(const std::string& type) {
  const HangingDisk disk;
  if (!disk.ready()) return skip("no disk that can hang");
  if (!disk.mount(type)) return skip("no " + type);
  const std::string path = disk.folder() + "/disk.img";
  REQUIRE(run("head -c 16M /dev/zero | tr '\\0' Z >" + path + " && sync " + path));
  check_nobody_waits(disk, {"file", path, false}, Operation::Kind::read);
  check_nobody_waits(disk, {"file", path, false}, Operation::Kind::write);
}

TEST_CASE("hung disk: a file on ext4") {
  if (has_uring()) check_file_on("ext4");
}

TEST_CASE("hung disk: a file on xfs") {
  if (has_uring()) check_file_on("xfs");
}

TEST_CASE("hung disk: the block device itself") {
  if (!has_uring()) return;
  const HangingDisk disk;
  if (!disk.ready()) return skip("no disk that can hang");
  check_nobody_waits(disk, {"block", disk.device(), false}, Operation::Kind::read);
  check_nobody_waits(disk, {"block", disk.device(), false}, Operation::Kind::write);
}

}  // namespace
}  // namespace ringdisk
