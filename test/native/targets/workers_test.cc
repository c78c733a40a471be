// SPDX-License-Identifier: Apache-2.0
// The thread that speaks with all workers: whatever one of them does, or does not do, costs its own
// disk and no other.
#include "targets/workers.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "base/beside_us.h"
#include "open_now.h"
#include "target_driver.h"
#include "test_media.h"

namespace ringdisk {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBytes = 4u << 20;

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;  // such a worker needs more than it may be given
#else
    false;
#endif

Workers::Opened open_by(Workers& workers, const TargetSpec& spec) {
  auto opened = std::make_shared<std::promise<Workers::Opened>>();
  workers.open(spec, [opened](Workers::Opened result) { opened->set_value(std::move(result)); });
  auto answer = opened->get_future();
  if (answer.wait_for(std::chrono::seconds(5)) != std::future_status::ready)
    return {.error = ETIMEDOUT, .text = "no answer", .target = nullptr};
  return answer.get();
}

std::unique_ptr<Target> open_well(Workers& workers, const TargetSpec& spec) {
  Workers::Opened opened = open_by(workers, spec);
  REQUIRE_MESSAGE(opened.error == 0, opened.text);
  return std::move(opened.target);
}

template <typename Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 500; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

// The worker, but slow to begin, with too little memory or not to be started at all.
class SlowProgram {
 public:
  SlowProgram() {
    REQUIRE(mkdtemp(folder_.data()) != nullptr);
    std::ofstream(path()) << "#!/bin/sh\n[ ! -e " << folder_ << "/slow ] || sleep 0.4\n[ ! -e "
                          << folder_ << "/small ] || ulimit -v 7000\nexec "
                          << beside_us("ringdisk-worker") << " \"$@\"\n";
    REQUIRE(chmod(path().c_str(), 0755) == 0);
  }
  ~SlowProgram() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/worker"; }
  void be_slow() const { std::ofstream(folder_ + "/slow"); }
  void be_small(bool small) const {
    if (small)
      std::ofstream(folder_ + "/small");
    else
      std::filesystem::remove(folder_ + "/small");
  }
  void be_missing(bool missing = true) const {
    REQUIRE(chmod(path().c_str(), missing ? 0 : 0755) == 0);
  }
  // Another build is installed.
  void be_replaced() const {
    std::ofstream(path() + ".new") << "#!/bin/sh\nexit 3\n";
    REQUIRE(chmod((path() + ".new").c_str(), 0755) == 0);
    std::filesystem::rename(path() + ".new", path());
  }

 private:
  std::string folder_ = disk_folder() + "/rd-test-XXXXXX";
};

// Whether another process of ours follows the killed one.
bool kill_worker(const Target& target) {
  const int before = target.worker();
  REQUIRE(before > 0);
  REQUIRE(::kill(before, SIGKILL) == 0);
  return soon([&] { return target.worker() > 0 && target.worker() != before; });
}

// How many descriptors of it this very process has.
int held_of(const std::string& path) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error) == path) count++;
  }
  return count;
}

// Those nobody has waited for.
int dead_children() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string number;
    std::string name;
    std::string state;
    int parent = 0;
    if (file >> number >> name >> state >> parent && parent == ::getpid() && state == "Z") count++;
  }
  return count;
}

TEST_CASE("workers: an open that is given up as it is answered") {
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  const TargetSpec spec{"file", file.path(), false};
  const std::unique_ptr<Target> other = open_well(workers, spec);
  program.be_slow();
  std::promise<int> answered;
  const uint64_t ticket =
      workers.open(spec, [&](Workers::Opened opened) { answered.set_value(opened.error); });
  std::this_thread::sleep_for(milliseconds(200));
  // The thread is busy until the answer has come and is not wanted any more.
  other->measure([](const TargetAnswer&) { std::this_thread::sleep_for(milliseconds(800)); });
  std::this_thread::sleep_for(milliseconds(500));
  workers.cancel_open(ticket);
  CHECK(answered.get_future().get() == ECANCELED);
  CHECK(open_by(workers, spec).error == 0);
}

TEST_CASE("workers: one that reads no messages holds nobody up") {
  if (!has_uring()) return;
  Workers workers;
  const TempFile file(disk_folder(), kBytes);
  const TempFile other(disk_folder(), kBytes);
  const std::unique_ptr<Target> hung = open_well(workers, {"file", file.path(), false});
  REQUIRE(::kill(hung->worker(), SIGSTOP) == 0);  // as if it waited for its medium
  // A guest that connects and goes, again and again.
  for (int i = 0; i < 100; i++) const TargetDriver driver(*hung);
  const Workers::Opened opened = open_by(workers, {"file", other.path(), false});
  CHECK_MESSAGE(opened.error == 0, opened.text);
  ::kill(hung->worker(), SIGCONT);
  // Nothing of what it was told meanwhile is lost.
  TargetDriver driver(*hung);
  CHECK(driver.flush() == 0);
}

TEST_CASE("workers: a channel that is opened while another worker is on its way") {
  if (!has_uring()) return;
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  claim_now(*target);
  TargetDriver driver(*target);
  CHECK(driver.flush() == 0);
  program.be_slow();
  REQUIRE(kill_worker(*target));
  TargetDriver late(*target);
  for (int i = 0; i < 200; i++) {
    CHECK(late.flush() == 0);
    CHECK(driver.flush() == 0);
  }
}

TEST_CASE("workers: one that is killed again while it comes back costs no error") {
  if (!has_uring()) return;
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  claim_now(*target);
  TargetDriver driver(*target);
  program.be_slow();
  REQUIRE(kill_worker(*target));
  ::kill(target->worker(), SIGKILL);
  for (int i = 0; i < 20; i++) CHECK(driver.flush() == 0);
}

TEST_CASE("workers: whichever descriptors the daemon has free") {
  Workers workers;
  const TempFile file(disk_folder(), kBytes);
  std::vector<std::unique_ptr<Target>> targets;
  std::vector<Fd> filling;
  // So that each number is once that of each of what a worker is given.
  for (int i = 0; i < 4; i++) {
    for (;;) {
      Fd one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (one.get() >= 96 + i) break;
      filling.push_back(std::move(one));
    }
    for (int k = 0; k < 4; k++) targets.push_back(open_well(workers, {"file", file.path(), false}));
    targets.clear();
  }
}

TEST_CASE("workers: no descriptors left") {
  Workers workers;
  const TempFile file(disk_folder(), kBytes);
  std::vector<Fd> filling;  // the worker's first steps need numbers of some size
  while (filling.empty() || filling.back().get() < 120)
    filling.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int before_it = dead_children();
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  for (uint64_t more = 0; more < 8; more++) {
    const Fd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit tight = before;
    tight.rlim_cur = static_cast<uint64_t>(next.get()) + more;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    Workers::Opened opened = open_by(workers, {"file", file.path(), false});
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(opened.error != ETIMEDOUT);
    if (opened.target) close_now(std::move(opened.target));
  }
  CHECK(soon([&] { return dead_children() <= before_it; }));
  CHECK(open_by(workers, {"file", file.path(), false}).error == 0);
}

TEST_CASE("workers: a device stays ours while its worker is away") {
  const std::optional<LoopDevice> loop = LoopDevice::create(kBytes);
  if (!loop) return;
  const SlowProgram program;
  Workers workers(program.path());
  const std::unique_ptr<Target> target = open_well(workers, {"block", loop->path(), false});
  claim_now(*target);
  const auto is_free = [&] {
    return Fd(::open(loop->path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC)).valid();
  };
  REQUIRE_FALSE(is_free());
  program.be_missing();
  REQUIRE(::kill(target->worker(), SIGKILL) == 0);
  REQUIRE(soon([&] { return target->worker() == 0; }));
  CHECK_FALSE(is_free());  // its reactors go on writing
}

TEST_CASE("workers: what is asked of one that is away is answered") {
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  program.be_missing();
  REQUIRE(::kill(target->worker(), SIGKILL) == 0);
  REQUIRE(soon([&] { return target->worker() == 0; }));
  auto answered = std::make_shared<std::promise<int>>();
  target->measure([answered](TargetAnswer answer) { answered->set_value(answer.error); });
  auto answer = answered->get_future();
  REQUIRE(answer.wait_for(std::chrono::seconds(2)) == std::future_status::ready);
  CHECK(answer.get() == EIO);
}

TEST_CASE("workers: one that dies again and again while it waits for the fence") {
  if (!has_uring()) return;
  Workers theirs;
  Workers ours;
  const TempFile file(disk_folder(), kBytes);
  std::unique_ptr<Target> before = open_well(theirs, {"file", file.path(), false});
  claim_now(*before);
  const std::unique_ptr<Target> target = open_well(ours, {"file", file.path(), false});
  std::atomic<int> lifted{0};
  const TargetAnswer answer = answer_of([&](Target::Answer done) {
    target->claim({false, true}, std::move(done), [&](const std::string&) { lifted++; });
  });
  REQUIRE(answer.fenced);
  TargetDriver driver(*target);
  CHECK(driver.flush() == 0);
  for (int i = 0; i < 3; i++) {
    REQUIRE(kill_worker(*target));
    std::this_thread::sleep_for(milliseconds(100));
    CHECK(target->fenced());
  }
  close_now(std::move(before));
  REQUIRE(soon([&] { return lifted > 0 && !target->fenced(); }));
  for (int i = 0; i < 200; i++) CHECK(driver.flush() == 0);
  CHECK(lifted == 1);
}

TEST_CASE("workers: after an installation the daemon that runs starts workers of its own build") {
  if (!has_uring()) return;
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> before = open_well(workers, {"file", file.path(), false});
  program.be_replaced();
  const TempFile other(disk_folder(), kBytes);
  const std::unique_ptr<Target> after = open_well(workers, {"file", other.path(), false});
  TargetDriver driver(*before);
  REQUIRE(kill_worker(*before));
  CHECK(driver.flush() == 0);
}

TEST_CASE("workers: a medium is not closed by this process, which its close may hold up") {
  const SlowProgram program;
  Workers workers(program.path());
  const std::optional<LoopDevice> loop = LoopDevice::create(kBytes);
  if (!loop) return;
  const int others = held_of(loop->path());
  const std::unique_ptr<Target> target = open_well(workers, {"block", loop->path(), false});
  claim_now(*target);
  REQUIRE(held_of(loop->path()) > others);
  program.be_missing();
  REQUIRE(::kill(target->worker(), SIGKILL) == 0);
  REQUIRE(soon([&] { return target->worker() == 0; }));
  std::promise<void> closed;
  target->close([&](const TargetAnswer&) { closed.set_value(); });
  const auto answer = closed.get_future();
  CHECK(answer.wait_for(milliseconds(500)) == std::future_status::timeout);
  CHECK(held_of(loop->path()) > others);
  program.be_missing(false);
  REQUIRE(answer.wait_for(std::chrono::seconds(5)) == std::future_status::ready);
  CHECK(held_of(loop->path()) == others);
  CHECK(Fd(::open(loop->path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC)).valid());
}

TEST_CASE("workers: nor is one whose open was given up as it was answered") {
  const SlowProgram program;
  Workers workers(program.path());
  const std::optional<LoopDevice> loop = LoopDevice::create(kBytes);
  if (!loop) return;
  const TempFile file(disk_folder(), kBytes);
  const int others = held_of(loop->path());
  const std::unique_ptr<Target> other = open_well(workers, {"file", file.path(), false});
  program.be_slow();
  const uint64_t ticket = workers.open({"block", loop->path(), false}, [](Workers::Opened) {});
  std::this_thread::sleep_for(milliseconds(200));
  // The answer lies in the socket when it is given up.
  other->measure([](const TargetAnswer&) { std::this_thread::sleep_for(milliseconds(800)); });
  std::this_thread::sleep_for(milliseconds(500));
  program.be_missing();
  workers.cancel_open(ticket);
  std::this_thread::sleep_for(milliseconds(800));
  CHECK(held_of(loop->path()) == others + 1);
  program.be_missing(false);
  CHECK(soon([&] { return held_of(loop->path()) == others; }));
}

TEST_CASE("workers: one that ends while a process that was just forked has our descriptors") {
  Workers workers;
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  REQUIRE(child > 0);
  answer_of([&](Target::Answer answer) { target->close(std::move(answer)); });
  // The thread is not told any more of what is gone.
  CHECK(open_by(workers, {"file", file.path(), false}).error == 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

// The only lane there is, as its worker sees it.
LaneHeader* only_lane() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string name = std::filesystem::read_symlink(entry.path(), error);
    if (!name.starts_with("/memfd:ringdisk-lane")) continue;
    const Fd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    void* mapped =
        ::mmap(nullptr, kLaneHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    return mapped == MAP_FAILED ? nullptr : static_cast<LaneHeader*>(mapped);
  }
  return nullptr;
}

void check_spoiled(LaneCompletion what, uint32_t completed) {
  Workers workers;
  const TempFile file(disk_folder(), kBytes);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  TargetDriver driver(*target);
  std::this_thread::sleep_for(milliseconds(100));
  LaneHeader* lane = only_lane();
  REQUIRE(lane != nullptr);
  ::kill(target->worker(), SIGSTOP);
  lane->completions[0] = what;
  lane->completed = completed;
  CHECK(driver.flush() == 0);  // of the next worker
  ::munmap(lane, kLaneHeaderBytes);
}

TEST_CASE("workers: one that answers what it was not asked ends, and not the daemon") {
  if (!has_uring()) return;
  check_spoiled({5, 0}, 1);
  check_spoiled({kLaneEntries, 0}, 1);
  check_spoiled({0, 0}, 1000);
}

TEST_CASE("workers: one that has no memory for a lane is followed by one that has") {
  if (!has_uring() || kSanitized) return;
  const SlowProgram program;
  Workers workers(program.path());
  const TempFile file(disk_folder(), kBytes);
  program.be_small(true);
  const std::unique_ptr<Target> target = open_well(workers, {"file", file.path(), false});
  TargetDriver driver(*target);
  const int first = target->worker();
  CHECK(soon([&] { return target->worker() != first; }));
  program.be_small(false);
  CHECK(driver.flush() == 0);
}

}  // namespace
}  // namespace ringdisk
