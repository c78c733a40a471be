// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "../targets/test_media.h"
#include "engine/engine.h"
#include "engine_results.h"
#include "platform/loopback/guest.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {

// A guest with four queues on two reactors, and a file as its disk.
struct EngineGuest {
  static constexpr uint64_t kDiskBytes = 16u << 20;
  static constexpr Domid kDomid = 1;

  TempMachine machine;
  TempFile file{disk_folder(), kDiskBytes};
  Engine engine{make_loopback_platform(machine.dir()),
                EngineOptions{.reactors = 2, .bounce_pool_bytes = 8u << 20}, nullptr};
  LoopbackGuest guest{machine.dir(), kDomid, 16384};
  uint32_t target = 0;
  uint32_t vbd = 0;

  explicit EngineGuest(OnError on_error = OnError::report) {
    engine.open_target(1, {"file", file.path()});
    target = result_of(1).value;
    engine.claim_target(2, target, {});
    result_of(2);
    ConnectRequest request;
    request.target = target;
    request.domid = kDomid;
    request.on_error = on_error;
    request.geometry.indirect_segments_max = kIndirectSegmentsMax;
    for (uint32_t i = 0; i < 4; i++) {
      const auto queue = guest.create_queue(0, Abi::x86_64);
      request.queues.push_back(
          {.index = i, .ring_refs = queue.ring_refs, .remote_port = queue.event_channel});
    }
    engine.connect(3, request);
    vbd = result_of(3).value;
    guest.start(kIndirectSegmentsMax, false);
  }
  ~EngineGuest() {
    if (vbd != 0) disconnect();
    guest.destroy_queues();
    engine.close_target(5, target);
    result_of(5);
  }

  EngineEvent result_of(uint32_t command) { return ringdisk::result_of(engine, command); }
  void disconnect() {
    engine.disconnect(4, vbd);
    CHECK(result_of(4).type == EngineEvent::Type::done);
    vbd = 0;
  }
  // 0, or what failed.
  int exchange(const StackChange& change) {
    engine.exchange(6, vbd, change);
    return result_of(6).error;
  }
};

// Writes or verifies all of the disk again and again until it is told to end.
struct Work {
  std::atomic<bool> ends{false};
  std::atomic<uint64_t> rounds{0};
  std::atomic<uint64_t> wrong{0};
  std::thread thread;

  explicit Work(LoopbackGuest& guest)
      : thread([this, &guest] {
          for (uint64_t seed = 1; !ends; seed++) {
            for (const auto operation :
                 {Workload::Operation::randwrite, Workload::Operation::verify}) {
              WorkloadControl control;
              const auto result = guest.run({.operation = operation,
                                             .block_bytes = 16384,
                                             .depth = 8,
                                             .length = EngineGuest::kDiskBytes,
                                             .seed = seed},
                                            control);
              wrong += result->errors + result->mismatches;
            }
            rounds++;
          }
        }) {}
  ~Work() { end(); }
  void end() {
    ends = true;
    if (thread.joinable()) thread.join();
  }
};

}  // namespace ringdisk
