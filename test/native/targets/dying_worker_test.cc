// SPDX-License-Identifier: Apache-2.0
// A worker that begins well and dies of whatever it is asked to do, and so does each that follows:
// the same as none at all. Its requests are answered, and processes are not started without end.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "target_driver.h"
#include "test_media.h"
#include "worker/messages.h"
#include "worker/start.h"

namespace ringdisk {
namespace {

using std::chrono::milliseconds;

// Run by the script below, in the worker's place.
TEST_CASE("dying worker: itself" * doctest::skip()) {
  for (;;) {
    WorkerRequest request;
    std::vector<Fd> fds;
    if (receive_message(kWorkerSocketFd, room_in(request), fds) <= 0) ::_exit(0);
    WorkerReply reply;
    reply.number = request.number;
    if (request.type == WorkerRequest::Type::add_lane) ::kill(::getpid(), SIGKILL);
    reply.type = request.type == WorkerRequest::Type::claim ? WorkerReply::Type::claimed
                                                            : WorkerReply::Type::opened;
    reply.facts.capabilities.capacity = reply.capacity = reply.direct_end = 1u << 20;
    send_message(kWorkerSocketFd, bytes_of(reply), {});
  }
}

class DyingProgram {
 public:
  DyingProgram() {
    REQUIRE(mkdtemp(folder_.data()) != nullptr);
    const std::string itself = std::filesystem::read_symlink("/proc/self/exe");
    std::ofstream(path()) << "#!/bin/sh\necho >> " << started() << "\nexec " << itself
                          << " --no-skip --test-case='dying worker: itself'\n";
    REQUIRE(chmod(path().c_str(), 0755) == 0);
  }
  ~DyingProgram() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/worker"; }
  uintmax_t starts() const { return std::filesystem::file_size(started()); }

 private:
  std::string started() const { return folder_ + "/started"; }
  std::string folder_ = disk_folder() + "/rd-test-XXXXXX";
};

TEST_CASE("dying worker: its requests fail, and the next ones are not started at once") {
  if (!has_uring()) return;
  const DyingProgram program;
  Workers workers(program.path());
  std::promise<std::unique_ptr<Target>> opened;
  workers.open({"file", "/nowhere", false},
               [&](Workers::Opened result) { opened.set_value(std::move(result.target)); });
  const std::unique_ptr<Target> target = opened.get_future().get();
  REQUIRE(target != nullptr);
  TargetDriver driver(*target);
  Operation flush{};
  flush.kind = Operation::Kind::flush;
  REQUIRE_FALSE(driver.channel().start(flush));
  const auto begin = std::chrono::steady_clock::now();
  const Operation* back = nullptr;
  while (!back && std::chrono::steady_clock::now() - begin < std::chrono::seconds(6))
    back = driver.parts(milliseconds(50));
  const uintmax_t starts = program.starts();
  REQUIRE(back == &flush);
  CHECK(flush.part_result == -EIO);
  CHECK(starts < 10);
}

}  // namespace
}  // namespace ringdisk
