// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "platform/loopback/domain.h"
#include "platform/loopback/frontend_queue.h"
#include "platform/loopback/workload.h"

namespace ringdisk {

// A guest domain with a blkif frontend: what xen-blkfront is on Xen, minus xenstore, which whoever
// drives this object speaks. All members belong to one thread, but for run(), which may be called
// on another as long as no other member but grants_in_use() and forget_backend() is called until it
// returns.
class LoopbackGuest {
 public:
  // 1 GiB; only what is used takes memory.
  static constexpr uint32_t kPageCount = 1u << 18;

  LoopbackGuest(const std::string& machine_dir, Domid domid, uint32_t page_count = kPageCount);

  // What the frontend publishes of a queue in xenstore.
  struct Transport {
    std::vector<GrantRef> ring_refs;
    Port event_channel;
  };
  // Throws std::invalid_argument for an order above kRingPageOrderMax or a queue too many.
  Transport create_queue(uint32_t ring_page_order, Abi abi);
  // Once the backend is Connected, with what both have agreed on; `indirect_segments` 0: direct
  // requests only. Throws std::invalid_argument above kIndirectSegmentsMax.
  void start(uint32_t indirect_segments, bool persistent_grants);

  // Runs the workload on all queues, one thread each, and returns when it is done or cancelled.
  // Throws std::invalid_argument for a workload that cannot be, and std::runtime_error when a queue
  // failed: that queue is of no more use then.
  std::unique_ptr<WorkloadResult> run(const Workload& workload, WorkloadControl& control);

  uint32_t grants_in_use() const { return domain_.grants_in_use(); }
  // See LoopbackDomain.
  void forget_backend() { domain_.forget_backend(); }
  // After the backend has disconnected. New queues may follow.
  void destroy_queues();

 private:
  void check(const Workload& workload) const;

  LoopbackDomain domain_;
  std::vector<std::unique_ptr<FrontendQueue>> queues_;
  uint32_t indirect_segments_ = 0;
  bool started_ = false;
};

}  // namespace ringdisk
