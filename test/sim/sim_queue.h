// SPDX-License-Identifier: Apache-2.0
// The guest's side of one queue: its ring, event channel and requests in flight, all of which
// outlive every backend. Checks each answer against the model.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "disk_model.h"
#include "plan.h"
#include "platform/loopback/domain.h"
#include "platform/loopback/frontend_buffers.h"
#include "platform/loopback/frontend_ring.h"
#include "protocol/abi.h"

namespace ringdisk::sim {

// The backend, or the disk, did what it must not.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Tally {
  uint64_t submitted = 0;
  uint64_t answered = 0;
  uint64_t refused = 0;  // of those, as they had to be
  uint64_t sectors_checked = 0;
};

class SimQueue {
 public:
  SimQueue(LoopbackDomain& domain, DiskModel& model, Tally& tally, uint32_t ring_page_order,
           Abi abi, bool persistent);
  ~SimQueue();
  SimQueue(const SimQueue&) = delete;
  SimQueue& operator=(const SimQueue&) = delete;

  const std::vector<GrantRef>& ring_refs() const { return ring_refs_; }
  Port port() const { return port_; }
  uint32_t in_flight() const { return static_cast<uint32_t>(requests_.size()); }
  bool full() const { return ring_.full(); }

  void submit(uint64_t guest_id, PlannedRequest plan);
  // Shows what was submitted to the backend, and wakes it if it asked for that.
  void publish();
  // Takes what was answered; throws Violation. Returns how many.
  uint32_t reap();
  // Asks for a notification. Returns false when there are answers already.
  bool arm();
  // What is in flight, for a failure's report.
  std::string unanswered() const;

 private:
  struct InFlight {
    PlannedRequest plan;
    std::vector<FrontendBuffer> pages{};
    std::vector<FrontendBuffer> segment_list{};  // none or one
    DiskModel::Time read_begun = 0;
  };

  void take_pages(InFlight& request);
  void put(uint64_t guest_id, InFlight& request);
  void spoil_entry(const InFlight& request, std::byte* entry);
  void tell_model(uint64_t guest_id, InFlight& request);
  void answered(const FrontendResponse& response);
  void check_read(const InFlight& request);
  void check_write(uint64_t guest_id, const InFlight& request);
  void give_back(const InFlight& request);
  std::vector<std::byte> gather(const InFlight& request) const;
  void scatter(uint64_t guest_id, const InFlight& request);
  std::byte* entry(uint32_t index) const;

  LoopbackDomain& domain_;
  DiskModel& model_;
  Tally& tally_;
  const Abi abi_;
  const uint32_t first_page_;
  const uint32_t page_count_;
  FrontendRing ring_;
  const Port port_;
  std::vector<GrantRef> ring_refs_;
  FrontendBuffers buffers_;
  uint32_t next_entry_ = 0;
  std::unordered_map<uint64_t, InFlight> requests_;  // by guest id
};

}  // namespace ringdisk::sim
