// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "base/bitmap.h"
#include "callgrind.h"
#include "engine/engine.h"
#include "measurements.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"

namespace ringdisk::bench {
namespace {

constexpr Domid kDomid = 1;
constexpr uint32_t kPersistentPages = 4224;  // as shipped, see src/config.ts

// The engine's owner: makes one call after the other and waits for each.
class Backend {
 public:
  explicit Backend(const Settings& settings)
      : engine_(make_loopback_platform(settings.machine),
                {.reactors = settings.reactors, .poll_budget_us = settings.poll_us},
                [this] { wake(); }) {}

  // `call` is given the number of its command; returns the value it ended with.
  template <typename Call>
  uint32_t run(const Call& call) {
    call(engine_, ++command_);
    for (;;) {
      for (const EngineEvent& event : engine_.collect()) {
        if (event.type == EngineEvent::Type::failed || event.type == EngineEvent::Type::ring_broken)
          throw std::runtime_error(event.text);
        if (event.type == EngineEvent::Type::done && event.command == command_) return event.value;
      }
      std::unique_lock lock(mutex_);
      condition_.wait(lock, [this] { return std::exchange(woken_, false); });
    }
  }

  const Engine& engine() const { return engine_; }

 private:
  void wake() {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    condition_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable condition_;
  bool woken_ = false;
  uint32_t command_ = 0;
  Engine engine_;  // last: it may call wake() as soon as it is there
};

// What was counted, as src/datapath names it.
struct Counts {
  std::vector<std::pair<std::string, uint64_t>> values;

  Counts(const Engine& engine, uint32_t vbd) {
    std::array<uint64_t, 10> sums{};
    for (const auto& queue : engine.counters(vbd)) {
      const uint64_t of_queue[] = {queue->notifications_received.get(),
                                   queue->notifications_sent.get(),
                                   queue->polls.get(),
                                   queue->grant_maps.get(),
                                   queue->grant_copies.get(),
                                   queue->copied_bytes.get()};
      for (size_t i = 0; i < std::size(of_queue); i++) sums[i] += of_queue[i];
    }
    for (const auto& reactor : engine.reactors()) {
      const ReactorCounters& counters = reactor->counters();
      const uint64_t of_reactor[] = {counters.wakeups.get(), counters.uring_enters.get(),
                                     counters.submissions.get(), counters.grant_calls.get()};
      for (size_t i = 0; i < std::size(of_reactor); i++) sums[6 + i] += of_reactor[i];
    }
    const char* names[] = {"notificationsReceived", "notificationsSent", "polls",   "grantMaps",
                           "grantCopies",           "copiedBytes",       "wakeups", "uringEnters",
                           "submissions",           "grantCalls"};
    for (size_t i = 0; i < sums.size(); i++) values.emplace_back(names[i], sums[i]);
  }
};

ConnectRequest connect_request(const Settings& settings, uint32_t target, LoopbackGuest& guest) {
  ConnectRequest request;
  request.target = target;
  request.domid = kDomid;
  request.grants = settings.grants == "persistent" ? GrantStrategy::persistent
                   : settings.grants == "map"      ? GrantStrategy::map
                                                   : GrantStrategy::copy;
  request.geometry.indirect_segments_max = kIndirectSegmentsMax;
  request.persistent_pages_max = kPersistentPages;
  for (uint32_t i = 0; i < settings.queues; i++) {
    const LoopbackGuest::Transport queue = guest.create_queue(settings.ring_order, Abi::x86_64);
    const std::string journal = settings.machine + "/journal" + std::to_string(i);
    request.queues.push_back({.index = i,
                              .ring_refs = queue.ring_refs,
                              .remote_port = queue.event_channel,
                              .journal = settings.journal ? journal : ""});
  }
  return request;
}

void track(const Settings& settings, Backend& backend, uint32_t target) {
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < settings.bitmaps; i++) {
    paths.push_back(settings.machine + "/bitmap" + std::to_string(i));
    Bitmap::create(paths.back(), settings.region, 64u << 10, "");
  }
  backend.run([&](Engine& engine, uint32_t command) { engine.track(command, target, paths); });
}

// Until a lone request's poll budget has tried all its ways (poll_budget.h).
constexpr uint64_t kWarmUpMs = 400;

}  // namespace

void measure_ringdisk(const Settings& settings) {
  if (settings.callgrind) take_turns();
  Backend backend(settings);
  LoopbackGuest guest(settings.machine, kDomid);
  const uint32_t target = backend.run([&](Engine& engine, uint32_t command) {
    engine.open_target(command, {.kind = settings.kind, .path = settings.path});
  });
  track(settings, backend, target);
  const ConnectRequest request = connect_request(settings, target, guest);
  const uint32_t vbd =
      backend.run([&](Engine& engine, uint32_t command) { engine.connect(command, request); });
  guest.start(kIndirectSegmentsMax, request.grants == GrantStrategy::persistent);

  Workload warm_up = settings.workload();
  if (warm_up.milliseconds)
    warm_up.milliseconds = kWarmUpMs;
  else
    warm_up.bytes = uint64_t{settings.queues} * settings.depth * settings.block * 16;
  WorkloadControl warming, control;
  guest.run(warm_up, warming);
  end_turns();
  const Counts before(backend.engine(), vbd);
  const uint64_t cpu_before = thread_cpu_ns("rd-reactor");
  const auto result = guest.run(settings.workload(), control);
  end_turns();
  const uint64_t cpu = thread_cpu_ns("rd-reactor") - cpu_before;

  JsonLine line;
  line.add("ios", result->requests).add("seconds", result->seconds).add(result->latency);
  line.add("errors", result->errors).add("cpuNs", cpu);
  // A reactor that never sleeps brings its counters up to date every few rounds only; disconnected
  // it would have none, so this may miss a handful.
  const Counts after(backend.engine(), vbd);
  for (size_t i = 0; i < after.values.size(); i++)
    line.add(after.values[i].first, after.values[i].second - before.values[i].second);
  line.print();

  backend.run([&](Engine& engine, uint32_t command) { engine.disconnect(command, vbd); });
  backend.run([&](Engine& engine, uint32_t command) { engine.close_target(command, target); });
  guest.destroy_queues();
}

}  // namespace ringdisk::bench
