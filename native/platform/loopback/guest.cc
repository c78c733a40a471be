// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/guest.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

namespace ringdisk {

namespace {

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// What went wrong first: the failures that follow from it would only hide it.
struct FirstFailure {
  std::mutex mutex;
  std::exception_ptr exception;

  void keep(std::exception_ptr failure) {
    const std::lock_guard lock(mutex);
    if (!exception) exception = std::move(failure);
  }
};

// One queue's part of a workload.
void work(FrontendQueue& queue, const Workload& workload, const BlockSchedule& schedule,
          WorkloadControl& control, WorkloadResult& result, FirstFailure& failure) {
  pthread_setname_np(pthread_self(), "rd-guest-queue");
  try {
    queue.run(workload, schedule, control, result);
  } catch (...) {
    failure.keep(std::current_exception());
    control.cancelled = true;  // the other queues' work is of no use any more
  }
}

}  // namespace

LoopbackGuest::LoopbackGuest(const std::string& machine_dir, Domid domid, uint32_t page_count)
    : domain_(machine_dir, domid, page_count) {}

LoopbackGuest::Transport LoopbackGuest::create_queue(uint32_t ring_page_order, Abi abi) {
  require(ring_page_order <= kRingPageOrderMax, "the ring page order is too high");
  require(queues_.size() < kQueuesPerVbdMax, "too many queues");
  require(!started_, "queues are created before start");
  queues_.push_back(std::make_unique<FrontendQueue>(domain_, ring_page_order, abi));
  return {queues_.back()->ring_refs(), queues_.back()->event_channel()};
}

void LoopbackGuest::start(uint32_t indirect_segments, bool persistent_grants) {
  require(indirect_segments <= kIndirectSegmentsMax, "too many indirect segments");
  require(!queues_.empty() && !started_, "start comes once, after the queues are created");
  indirect_segments_ = indirect_segments;
  for (const auto& queue : queues_) queue->start(indirect_segments, persistent_grants);
  started_ = true;
}

void LoopbackGuest::check(const Workload& workload) const {
  require(started_, "start the frontend first");
  require(workload.depth > 0, "depth is at least 1");
  if (workload.operation == Workload::Operation::flush) return;
  require(workload.block_bytes > 0 && workload.block_bytes % kSectorBytes == 0,
          "blockBytes is a multiple of 512");
  require(workload.offset % kSectorBytes == 0 && workload.length % kSectorBytes == 0,
          "offset and length are multiples of 512");
  require(workload.length > 0, "length is at least 512");
  require(workload.length <= UINT64_MAX - workload.offset, "the region ends beyond any disk");
  if (!workload.moves_data()) return;
  const bool direct_only = workload.operation == Workload::Operation::barrier;
  const uint64_t segments_max =
      direct_only ? kDirectSegmentsMax : std::max(kDirectSegmentsMax, indirect_segments_);
  require(workload.block_bytes <= segments_max * kPageBytes,
          "blockBytes is more than the segments of one request hold");
  // A block that starts within a page may take a page more, and an indirect one too.
  const uint64_t pages = workload.block_bytes / kPageBytes + 3;
  uint64_t requests = 0;
  for (const auto& queue : queues_) requests += std::min(workload.depth, queue->ring_entries());
  require(requests * pages <= domain_.page_count() / 2,
          "queues x depth x blockBytes is more than half of the guest's memory");
}

std::unique_ptr<WorkloadResult> LoopbackGuest::run(const Workload& workload,
                                                   WorkloadControl& control) {
  check(workload);
  const auto count = static_cast<uint32_t>(queues_.size());
  std::vector<WorkloadResult> results(count);
  FirstFailure failure;
  {
    std::vector<std::jthread> threads;  // joined when they go out of scope
    threads.reserve(count);
    for (uint32_t i = 0; i < count; i++) {
      threads.emplace_back([&, i] {
        work(*queues_[i], workload, BlockSchedule(workload, i, count), control, results[i],
             failure);
      });
    }
  }
  if (failure.exception) std::rethrow_exception(failure.exception);
  auto total = std::make_unique<WorkloadResult>();
  for (const WorkloadResult& result : results) total->add(result);
  return total;
}

void LoopbackGuest::destroy_queues() {
  queues_.clear();
  started_ = false;
}

}  // namespace ringdisk
