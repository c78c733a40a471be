// SPDX-License-Identifier: Apache-2.0
// The data path alone, in a process that can be killed: opens a target, connects one VBD on the
// loopback machine with a journal per queue, and says on standard output what happened:
//   C        connected
//   D        disconnected, as asked by a byte on standard input; the process ends
//   E text   a command failed, or a ring is broken; nothing follows
// recovery_sim starts it hundreds of times; see there.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "base/fd.h"
#include "engine/engine.h"
#include "platform/loopback/loopback_platform.h"

namespace ringdisk {
namespace {

// Small, because each of thousands of processes pays for it: registering pins it.
constexpr size_t kBounceBytes = 4u << 20;
enum Command : uint32_t { kOpen = 1, kClaim, kTrack, kConnect, kDisconnect };

// What a faulty disk takes, bytes; more than any journal has. And for how long.
constexpr rlim_t kFaultyBytes = 512u << 10;
constexpr int kFaultyMs = 20;

// Its writes beyond that fail, or are cut short: those to the disk, it has no other file.
void limit_file_size(int worker, rlim_t bytes) {
  const rlimit limit{bytes, RLIM_INFINITY};
  ::prlimit(worker, RLIMIT_FSIZE, &limit, nullptr);
}

void say(const std::string& text) {
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
}

// "port:take_over:journal:ref,ref"
QueueOptions parse_queue(const std::string& text, uint32_t index) {
  QueueOptions options;
  options.index = index;
  std::istringstream fields(text);
  std::string port, take_over, refs, ref;
  std::getline(fields, port, ':');
  std::getline(fields, take_over, ':');
  std::getline(fields, options.journal, ':');
  options.remote_port = static_cast<Port>(std::stoul(port));
  options.take_over = take_over == "1";
  while (std::getline(fields, ref, ','))
    options.ring_refs.push_back(static_cast<GrantRef>(std::stoul(ref)));
  return options;
}

class Backend {
 public:
  Backend(const std::string& machine, const EngineOptions& options)
      : wake_(Fd::checked(::eventfd(0, EFD_CLOEXEC), "eventfd")),
        engine_(make_loopback_platform(machine), options, [fd = wake_.get()] {
          const uint64_t one = 1;
          [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
        }) {}

  int serve(const TargetSpec& target, const TargetClaim& claim, const std::string& bitmap,
            const ConnectRequest& connect, bool faulty) {
    connect_ = connect;
    bitmap_ = bitmap;
    claim_ = claim;
    faulty_ = faulty;
    engine_.open_target(kOpen, target);
    pollfd waited[] = {{wake_.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (!ended_) {
      if (::poll(waited, 2, worker_ != 0 ? kFaultyMs : -1) == 0) {
        limit_file_size(worker_, RLIM_INFINITY);
        worker_ = 0;
      }
      if (waited[1].revents != 0) on_input(waited[1]);
      if ((waited[0].revents & POLLIN) == 0) continue;
      uint64_t count;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
      for (const EngineEvent& event : engine_.collect()) handle(event);
    }
    return 0;
  }

 private:
  void on_input(pollfd& input) {
    char byte;
    if (::read(STDIN_FILENO, &byte, 1) <= 0) std::_Exit(0);  // the harness is gone
    input.fd = -1;
    engine_.disconnect(kDisconnect, vbd_);
  }

  void handle(const EngineEvent& event) {
    if (event.type == EngineEvent::Type::failed || event.type == EngineEvent::Type::ring_broken)
      return say("E" + event.text);
    if (event.type != EngineEvent::Type::done) return;
    if (event.command == kOpen) {
      connect_.target = event.value;
      if (faulty_) worker_ = engine_.target_worker(event.value);
      if (worker_ != 0) limit_file_size(worker_, kFaultyBytes);
      engine_.claim_target(kClaim, event.value, claim_);
    } else if (event.command == kClaim) {
      engine_.track(kTrack, connect_.target, {bitmap_});
    } else if (event.command == kTrack) {
      engine_.connect(kConnect, connect_);
    } else if (event.command == kConnect) {
      vbd_ = event.value;
      say("C");
    } else {
      say("D");
      ended_ = true;
    }
  }

  Fd wake_;
  Engine engine_;
  ConnectRequest connect_;
  std::string bitmap_;
  TargetClaim claim_;
  uint32_t vbd_ = 0;
  bool faulty_ = false;
  int worker_ = 0;  // while its disk is faulty
  bool ended_ = false;
};

int run(const std::vector<std::string>& arguments) {
  ConnectRequest connect;
  connect.domid = static_cast<Domid>(std::stoul(arguments[3]));
  connect.abi = arguments[4] == "x86_32" ? Abi::x86_32 : Abi::x86_64;
  connect.grants = arguments[5] == "persistent" ? GrantStrategy::persistent
                   : arguments[5] == "map"      ? GrantStrategy::map
                                                : GrantStrategy::copy;
  connect.on_error = OnError::stop;
  connect.geometry.indirect_segments_max = kIndirectSegmentsMax;
  connect.geometry.discard = true;
  connect.persistent_pages_max = 1024;
  for (size_t i = 8; i < arguments.size(); i++)
    connect.queues.push_back(parse_queue(arguments[i], static_cast<uint32_t>(i - 8)));
  EngineOptions options;
  options.reactors = connect.queues.size() > 1 ? 2 : 1;
  options.bounce_pool_bytes = kBounceBytes;
  const TargetSpec target{.kind = "file", .path = arguments[2]};
  TargetClaim claim;
  for (const QueueOptions& queue : connect.queues) claim.take_over |= queue.take_over;
  return Backend(arguments[1], options)
      .serve(target, claim, arguments[7], connect, arguments[6] == "faulty");
}

}  // namespace
}  // namespace ringdisk

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::vector<std::string> arguments(argv, argv + argc);
  if (arguments.size() < 9) {
    std::fputs(
        "usage: recovery_backend MACHINE TARGET DOMID ABI GRANTS faulty|sound BITMAP QUEUE...\n",
        stderr);
    return 2;
  }
  return ringdisk::run(arguments);
}
