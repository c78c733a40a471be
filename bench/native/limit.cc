// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "measurements.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"
#include "ring/ring.h"

namespace ringdisk::bench {
namespace {

constexpr Domid kDomid = 1;

// A backend that does nothing but what no backend can leave out.
class BareBackend {
 public:
  BareBackend(const std::string& machine, uint32_t pages, const LoopbackGuest::Transport& queue)
      : platform_(make_loopback_platform(machine)),
        grants_(platform_->open_grant_table()),
        events_(platform_->open_event_channels()) {
    if (grants_->map(kDomid, queue.ring_refs, true, mapping_) != 0 ||
        events_->bind(kDomid, queue.event_channel, port_) != 0)
      throw std::runtime_error("the bare backend cannot connect");
    thread_ = std::jthread([this, pages] { run(pages); });
  }

  ~BareBackend() {
    stopping_ = true;
    thread_.join();
    events_->unbind(port_);
    grants_->unmap(mapping_);
  }

 private:
  void run(uint32_t pages) {
    Ring ring(mapping_.address, Abi::x86_64, pages);
    const wire::Layout& layout = wire::layout(Abi::x86_64);
    alignas(8) std::array<std::byte, wire::kEntryBytesMax> entry;
    while (!stopping_.load(std::memory_order_relaxed)) {
      const uint32_t waiting = ring.waiting();
      for (uint32_t i = 0; i < waiting; i++) {
        ring.take(entry);
        uint64_t guest_id;
        std::memcpy(&guest_id, entry.data() + layout.id, sizeof guest_id);
        ring.respond(guest_id, static_cast<uint8_t>(entry[0]), wire::kOkay);
      }
      if (waiting == 0) continue;
      ring.hold_off();
      if (ring.publish()) events_->notify(port_);
    }
  }

  std::unique_ptr<Platform> platform_;
  std::unique_ptr<GrantTable> grants_;
  std::unique_ptr<EventChannels> events_;
  GrantMapping mapping_;
  Port port_ = 0;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

}  // namespace

void measure_limit(const Settings& settings) {
  LoopbackGuest guest(settings.machine, kDomid);
  const LoopbackGuest::Transport queue = guest.create_queue(settings.ring_order, Abi::x86_64);
  guest.start(kIndirectSegmentsMax, true);
  std::unique_ptr<WorkloadResult> result;
  {
    const BareBackend backend(settings.machine, 1u << settings.ring_order, queue);
    WorkloadControl control;
    result = guest.run(settings.workload(), control);
  }
  guest.destroy_queues();
  JsonLine()
      .add("ios", result->requests)
      .add("seconds", result->seconds)
      .add(result->latency)
      .print();
}

}  // namespace ringdisk::bench
