// SPDX-License-Identifier: Apache-2.0
// What a queue's lane keeps, and what it still does, when the guest has stopped asking.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "open_now.h"
#include "queue_rig.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1u << 20;
constexpr uint64_t kSectorsPerMebibyte = kMebibyte / kSectorBytes;

uint64_t lane_bytes() {
  uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string name = std::filesystem::read_symlink(entry.path(), error);
    if (!name.starts_with("/memfd:ringdisk-lane")) continue;
    struct stat status{};
    if (::stat(entry.path().c_str(), &status) == 0)
      sum += static_cast<uint64_t>(status.st_blocks) * 512;
  }
  return sum;
}

// A signal to stop reaches its threads one after the other.
bool has_stopped(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
    std::ifstream file(entry.path() / "stat");
    std::string line;
    std::getline(file, line);
    if (!line.substr(line.rfind(')') + 1).starts_with(" T")) return false;
  }
  return true;
}

// One guest's queue on a file that is all its worker's.
struct OnFile {
  static constexpr uint64_t kBytes = 8 * kMebibyte;
  TempFile file{"/dev/shm", kBytes};
  QueueRig rig;
  std::shared_ptr<Target> target = open_target({"file", file.path()});
  std::unique_ptr<LoopbackDomain> guest = rig.create_guest(1);
  RawFrontend frontend{*guest, 1};
  std::unique_ptr<ConnectedQueue> queue = rig.connect(*guest, frontend, target);
  GuestPage page{*guest};
  GuestPage list{*guest};

  void write_all() {
    for (int i = 0; i < 256; i++)
      reinterpret_cast<xen_abi::Segment*>(list.data())[i] = page.segment();
    for (uint64_t i = 0; i < kBytes / kMebibyte; i++)
      frontend.put(raw_indirect(wire::kWrite, i * kSectorsPerMebibyte, 256, list.gref));
    frontend.publish();
    for (const auto& [id, status] : frontend.all_answers()) REQUIRE(status == wire::kOkay);
  }
};

TEST_CASE("lane: what the data of many requests took is given back") {
  if (!has_uring() || !is_tmpfs("/dev/shm")) return;
  OnFile on;
  on.write_all();
  REQUIRE(lane_bytes() > 2 * kMebibyte);
  for (uint64_t i = 1; i <= 4; i++) on.queue->pass(i * kGrantAgeUs);
  CHECK(lane_bytes() < kMebibyte / 4);
  on.write_all();
}

TEST_CASE("lane: a discard that its worker has not begun when the queue closes is not begun") {
  if (!has_uring() || !is_tmpfs("/dev/shm")) return;
  OnFile on;
  on.write_all();
  REQUIRE(::kill(on.target->worker(), SIGSTOP) == 0);
  REQUIRE(eventually([&] { return has_stopped(on.target->worker()); }));
  for (uint64_t i = 0; i < OnFile::kBytes / kMebibyte; i++)
    on.frontend.put(raw_discard(i * kSectorsPerMebibyte, kSectorsPerMebibyte));
  on.frontend.publish();
  REQUIRE(eventually([&] { return on.queue->counters().taken.get() == 16; }));
  on.queue->begin_close();
  REQUIRE(::kill(on.target->worker(), SIGCONT) == 0);
  on.queue->close();
  CHECK(on.file.allocated_bytes() == OnFile::kBytes);
  for (const auto& [id, status] : on.frontend.all_answers()) CHECK(status == wire::kError);
}

}  // namespace
}  // namespace ringdisk
