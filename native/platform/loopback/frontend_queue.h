// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "platform/loopback/domain.h"
#include "platform/loopback/frontend_buffers.h"
#include "platform/loopback/frontend_ring.h"
#include "platform/loopback/workload.h"

namespace ringdisk {

// One ring, one event channel and the requests in flight on them: the part of a blkif frontend that
// runs in its own thread. Everything the backend writes is checked as xen-blkfront checks it, and
// the first violation ends the queue for good.
class FrontendQueue {
 public:
  FrontendQueue(LoopbackDomain& domain, uint32_t ring_page_order, Abi abi);
  // After the backend has disconnected.
  ~FrontendQueue();
  FrontendQueue(const FrontendQueue&) = delete;
  FrontendQueue& operator=(const FrontendQueue&) = delete;

  const std::vector<GrantRef>& ring_refs() const { return ring_refs_; }
  Port event_channel() const { return port_; }
  uint32_t ring_entries() const { return ring_.entries(); }

  // Once the backend is connected.
  void start(uint32_t indirect_segments, bool persistent_grants);

  // Works through the schedule and waits for the answers; returns early when cancelled. Throws
  // std::runtime_error when the backend breaks the protocol or does not answer in time.
  void run(const Workload& workload, BlockSchedule schedule, WorkloadControl& control,
           WorkloadResult& result);

 private:
  using Clock = std::chrono::steady_clock;

  // A request in flight.
  struct Slot {
    uint64_t guest_id = 0;  // 0: free
    uint8_t operation = 0;
    Block block{};
    uint32_t first_sect = 0;               // of the first page
    std::vector<FrontendBuffer> buffers;   // data pages, in order
    std::vector<FrontendBuffer> indirect;  // none or one
    Clock::time_point started{};
  };
  struct Run;  // what belongs to one call of run()

  void submit(Run& run, Block block);
  uint32_t first_sect_for(const Block& block, const Workload& workload) const;
  void attach_data(Run& run, Slot& slot);
  std::byte* sector_address(const Slot& slot, uint64_t sector_in_block) const;
  void fill(const Workload& workload, const Slot& slot);
  bool content_is_right(const Workload& workload, const Slot& slot) const;

  uint32_t reap(Run& run);
  void finish(Run& run, const FrontendResponse& response);
  void release(Slot& slot);
  void wait_for_responses(Run& run);

  LoopbackDomain& domain_;
  uint32_t ring_page_index_;
  uint32_t ring_page_count_;
  FrontendRing ring_;
  Port port_;
  std::vector<GrantRef> ring_refs_;
  uint32_t segments_max_ = 0;
  std::unique_ptr<FrontendBuffers> buffers_;  // set by start()

  std::vector<Slot> slots_;  // one per ring entry
  std::vector<uint32_t> free_slots_;
  std::vector<FrontendSegment> segments_;  // of the request being put together
  uint64_t next_generation_ = 1;
  bool broken_ = false;
};

}  // namespace ringdisk
