// SPDX-License-Identifier: Apache-2.0
// An engine and a guest with one queue, driven step by step from a test's own thread.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "platform/loopback/domain.h"
#include "platform/loopback/frontend_ring.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {

class EngineDriver {
 public:
  static constexpr Domid kDomid = 1;

  EngineDriver()
      : domain_(machine_.dir(), kDomid, 64),
        ring_page_(domain_.allocate_page()),
        ring_(domain_.page(ring_page_), Abi::x86_64, 1),
        port_(domain_.open_port()),
        ring_ref_(domain_.grant(ring_page_)) {
    engine_ = std::make_unique<Engine>(make_loopback_platform(machine_.dir()),
                                       EngineOptions{.bounce_pool_bytes = 2u << 20}, nullptr);
  }
  ~EngineDriver() {
    if (vbd_ != 0) disconnect();
  }

  const std::string& dir() const { return machine_.dir(); }

  // The event that ends the command, or the next of `type`.
  EngineEvent wait_for(EngineEvent::Type type) {
    for (int tries = 0; tries < kTries; tries++) {
      for (EngineEvent& event : engine_->collect()) events_.push_back(std::move(event));
      const auto found = std::ranges::find(events_, type, &EngineEvent::type);
      if (found != events_.end()) {
        EngineEvent event = std::move(*found);
        events_.erase(found);
        return event;
      }
      std::this_thread::sleep_for(kStep);
    }
    FAIL("no such event came");
    return {};
  }

  // Opened, and claimed: what came of both.
  EngineEvent open(const TargetSpec& spec, const TargetClaim& claim = {}) {
    engine_->open_target(1, spec);
    EngineEvent opened = wait_for(EngineEvent::Type::done);
    engine_->claim_target(4, opened.value, claim);
    opened.fenced = wait_for(EngineEvent::Type::done).fenced;
    return opened;
  }
  void connect(uint32_t target) {
    ConnectRequest request{.target = target, .domid = kDomid};
    request.geometry.discard = true;
    request.queues = {{.index = 0, .ring_refs = {ring_ref_}, .remote_port = port_}};
    engine_->connect(2, request);
    vbd_ = wait_for(EngineEvent::Type::done).value;
  }
  void disconnect() {
    engine_->disconnect(3, vbd_);
    wait_for(EngineEvent::Type::done);
    vbd_ = 0;
  }

  // One page from `sector` on.
  void submit(uint8_t operation, uint64_t guest_id, uint64_t sector) {
    const uint32_t page = domain_.allocate_page();
    const FrontendSegment segment{domain_.grant(page), 0, kSectorsPerPage - 1};
    FrontendRequest request{.operation = operation, .guest_id = guest_id, .sector = sector};
    if (operation == wire::kRead || operation == wire::kWrite) request.segments = {&segment, 1};
    if (operation == wire::kDiscard) request.discard_sectors = kSectorsPerPage;
    ring_.put(request);
    if (ring_.publish()) domain_.notify(port_);
  }
  // The ids answered by the time `count` were, or too long has passed.
  std::vector<uint64_t> answers(size_t count) {
    std::vector<uint64_t> ids;
    for (int tries = 0; tries < kTries && ids.size() < count; tries++) {
      while (ring_.waiting() > 0) ids.push_back(ring_.take().guest_id);
      if (ids.size() < count) std::this_thread::sleep_for(kStep);
    }
    return ids;
  }
  bool silent_for(std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
    return ring_.waiting() == 0;
  }

 private:
  static constexpr auto kStep = std::chrono::milliseconds(2);
  static constexpr int kTries = 2500;

  TempMachine machine_;
  LoopbackDomain domain_;
  uint32_t ring_page_;
  FrontendRing ring_;
  Port port_;
  GrantRef ring_ref_;
  std::unique_ptr<Engine> engine_;
  std::vector<EngineEvent> events_;
  uint32_t vbd_ = 0;
};

}  // namespace ringdisk
