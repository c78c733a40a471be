// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/frontend_queue.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "base/assert.h"
#include "platform/loopback/pattern.h"

namespace ringdisk {

namespace {

// How often a sleeping queue looks whether it was cancelled or the backend is late.
constexpr int kWaitSliceMs = 50;
// How long a cancelled queue waits for what is in flight.
constexpr std::chrono::milliseconds kCancelGrace{2000};
// Fills the memory of a verifying read beforehand: old content cannot pass for new, and a write
// outside the sectors asked for shows.
constexpr int kUntouched = 0xa5;
// A guest id is (generation << kSlotBits) | slot: no id is used twice.
constexpr uint32_t kSlotBits = 16;
static_assert(kRingEntriesMax <= 1u << kSlotBits);
// One indirect page lists the segments of the largest request there is.
static_assert(kIndirectSegmentsMax <= kSegmentsPerIndirectPage);

uint8_t wire_operation(Workload::Operation operation) {
  switch (operation) {
    case Workload::Operation::write:
    case Workload::Operation::randwrite:
      return wire::kWrite;
    case Workload::Operation::barrier:
      return wire::kWriteBarrier;
    case Workload::Operation::flush:
      return wire::kFlushDiskcache;
    case Workload::Operation::discard:
      return wire::kDiscard;
    case Workload::Operation::read:
    case Workload::Operation::verify:
    case Workload::Operation::randread:
      break;
  }
  return wire::kRead;
}

[[noreturn]] void violation(const std::string& what) {
  throw std::runtime_error("the backend broke the blkif protocol: " + what);
}

}  // namespace

struct FrontendQueue::Run {
  const Workload& workload;
  BlockSchedule schedule;
  WorkloadControl& control;
  WorkloadResult& result;
  Clock::time_point last_response;
  Clock::time_point cancelled_at = Clock::time_point::max();
  uint32_t in_flight = 0;
};

FrontendQueue::FrontendQueue(LoopbackDomain& domain, uint32_t ring_page_order, Abi abi)
    : domain_(domain),
      ring_page_index_(domain.allocate_pages(1u << ring_page_order)),
      ring_page_count_(1u << ring_page_order),
      ring_(domain.page(ring_page_index_), abi, ring_page_count_),
      port_(domain.open_port()),
      slots_(ring_.entries()) {
  for (uint32_t i = 0; i < ring_page_count_; i++) {
    ring_refs_.push_back(domain_.grant(ring_page_index_ + i));
  }
  for (uint32_t i = ring_.entries(); i > 0; i--) free_slots_.push_back(i - 1);
}

FrontendQueue::~FrontendQueue() {
  for (Slot& slot : slots_) {
    for (const FrontendBuffer& buffer : slot.buffers) buffers_->give_back(buffer);
    for (const FrontendBuffer& buffer : slot.indirect) buffers_->give_back(buffer);
  }
  for (uint32_t i = 0; i < ring_page_count_; i++) {
    if (domain_.revoke(ring_refs_[i])) domain_.free_page(ring_page_index_ + i);
  }
  domain_.close_port(port_);
}

void FrontendQueue::start(uint32_t indirect_segments, bool persistent_grants) {
  RD_ASSERT(buffers_ == nullptr);
  segments_max_ = std::max(kDirectSegmentsMax, indirect_segments);
  buffers_ = std::make_unique<FrontendBuffers>(domain_, persistent_grants);
}

void FrontendQueue::run(const Workload& workload, BlockSchedule schedule, WorkloadControl& control,
                        WorkloadResult& result) {
  if (broken_) throw std::runtime_error("the queue was ended by an earlier failure");
  const Clock::time_point start = Clock::now();
  const Clock::time_point deadline = workload.milliseconds
                                         ? start + std::chrono::milliseconds(*workload.milliseconds)
                                         : Clock::time_point::max();
  Run run{.workload = workload,
          .schedule = schedule,
          .control = control,
          .result = result,
          .last_response = start};
  const uint32_t depth = std::min(workload.depth, ring_.entries());
  broken_ = true;  // until this run has ended well
  bool more = true;
  while (more || run.in_flight > 0) {
    while (more && run.in_flight < depth) {
      const bool stop = control.cancelled.load(std::memory_order_relaxed) ||
                        (workload.milliseconds && Clock::now() >= deadline);
      const std::optional<Block> block = stop ? std::nullopt : run.schedule.next();
      more = block.has_value();
      if (block) submit(run, *block);
    }
    if (ring_.publish()) {
      domain_.notify(port_);
      result.notifications_sent++;
    }
    if (run.in_flight > 0 && reap(run) == 0) wait_for_responses(run);
  }
  broken_ = false;
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
}

void FrontendQueue::submit(Run& run, Block block) {
  const uint32_t slot_index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[slot_index];
  slot.guest_id = next_generation_++ << kSlotBits | slot_index;
  slot.operation = wire_operation(run.workload.operation);
  slot.block = block;

  segments_.clear();
  if (run.workload.moves_data()) attach_data(run, slot);
  FrontendRequest request{
      .operation = slot.operation, .guest_id = slot.guest_id, .segments = segments_};
  if (slot.operation != wire::kFlushDiskcache) request.sector = block.sector;
  if (slot.operation == wire::kDiscard) request.discard_sectors = block.sector_count;
  if (request.indirect()) {
    slot.indirect.push_back(buffers_->take(true));
    encode_segments(segments_, domain_.page(slot.indirect[0].page_index));
    request.indirect_gref = slot.indirect[0].gref;
  }
  slot.started = Clock::now();
  ring_.put(request);
  run.in_flight++;
}

// Blocks of whole pages lie in whole pages, as the page cache's do. Others start anywhere in their
// page, as a guest's direct I/O may, unless that would take a segment too many.
uint32_t FrontendQueue::first_sect_for(const Block& block, const Workload& workload) const {
  if (block.sector_count % kSectorsPerPage == 0) return 0;
  const uint32_t segments_max =
      workload.operation == Workload::Operation::barrier ? kDirectSegmentsMax : segments_max_;
  const auto first = static_cast<uint32_t>(next_generation_ * 3 % kSectorsPerPage);
  return first + block.sector_count <= uint64_t{segments_max} * kSectorsPerPage ? first : 0;
}

void FrontendQueue::attach_data(Run& run, Slot& slot) {
  slot.first_sect = first_sect_for(slot.block, run.workload);
  const auto end = static_cast<uint32_t>(slot.first_sect + slot.block.sector_count);
  for (uint32_t begin = 0; begin < end; begin += kSectorsPerPage) {
    slot.buffers.push_back(buffers_->take(run.workload.is_write()));
    const uint32_t first = begin == 0 ? slot.first_sect : 0;
    const uint32_t last = std::min(end - begin, kSectorsPerPage) - 1;
    segments_.push_back(
        {slot.buffers.back().gref, static_cast<uint8_t>(first), static_cast<uint8_t>(last)});
  }
  fill(run.workload, slot);
}

std::byte* FrontendQueue::sector_address(const Slot& slot, uint64_t sector_in_block) const {
  const uint64_t place = slot.first_sect + sector_in_block;
  const FrontendBuffer& buffer = slot.buffers[place / kSectorsPerPage];
  return domain_.page(buffer.page_index) + place % kSectorsPerPage * kSectorBytes;
}

void FrontendQueue::fill(const Workload& workload, const Slot& slot) {
  if (workload.is_write()) {
    for (uint64_t i = 0; i < slot.block.sector_count; i++) {
      fill_sector(sector_address(slot, i), workload.seed, slot.block.sector + i);
    }
  } else if (workload.operation == Workload::Operation::verify) {
    for (const FrontendBuffer& buffer : slot.buffers) {
      std::memset(domain_.page(buffer.page_index), kUntouched, kPageBytes);
    }
  }
}

bool FrontendQueue::content_is_right(const Workload& workload, const Slot& slot) const {
  for (uint64_t i = 0; i < slot.block.sector_count; i++) {
    if (!sector_matches(sector_address(slot, i), workload.seed, slot.block.sector + i)) {
      return false;
    }
  }
  const auto untouched = [](const std::byte* from, const std::byte* to) {
    return std::all_of(from, to, [](std::byte byte) { return byte == std::byte{kUntouched}; });
  };
  const std::byte* first_page = domain_.page(slot.buffers.front().page_index);
  const std::byte* last_page = domain_.page(slot.buffers.back().page_index);
  const std::byte* end = sector_address(slot, slot.block.sector_count - 1) + kSectorBytes;
  return untouched(first_page, sector_address(slot, 0)) && untouched(end, last_page + kPageBytes);
}

uint32_t FrontendQueue::reap(Run& run) {
  const uint32_t waiting = ring_.waiting();
  if (waiting == FrontendRing::kImpossible) violation("its response index passes our requests");
  for (uint32_t i = 0; i < waiting; i++) finish(run, ring_.take());
  return waiting;
}

void FrontendQueue::finish(Run& run, const FrontendResponse& response) {
  const uint64_t slot_index = response.guest_id & ((1u << kSlotBits) - 1);
  if (slot_index >= slots_.size() || response.guest_id == 0 ||
      slots_[slot_index].guest_id != response.guest_id) {
    violation("a response to request " + std::to_string(response.guest_id) +
              ", which is not in flight");
  }
  Slot& slot = slots_[slot_index];
  if (slot.operation != response.operation) {
    violation("operation " + std::to_string(response.operation) +
              " in the response to a request of operation " + std::to_string(slot.operation));
  }
  const Clock::time_point now = Clock::now();
  const uint64_t bytes =
      slot.operation == wire::kFlushDiskcache ? 0 : slot.block.sector_count * kSectorBytes;
  WorkloadResult& result = run.result;
  result.latency.record(static_cast<uint64_t>((now - slot.started).count()));
  result.requests++;
  result.bytes += bytes;
  run.control.requests.fetch_add(1, std::memory_order_relaxed);
  run.control.bytes.fetch_add(bytes, std::memory_order_relaxed);
  run.last_response = now;
  run.in_flight--;
  if (response.status != wire::kOkay) {
    result.errors++;
  } else if (run.workload.operation == Workload::Operation::verify &&
             !content_is_right(run.workload, slot)) {
    result.mismatches++;
  }
  release(slot);
  free_slots_.push_back(static_cast<uint32_t>(slot_index));
}

void FrontendQueue::release(Slot& slot) {
  bool let_go = true;
  for (const FrontendBuffer& buffer : slot.buffers) let_go &= buffers_->give_back(buffer);
  for (const FrontendBuffer& buffer : slot.indirect) let_go &= buffers_->give_back(buffer);
  slot.buffers.clear();
  slot.indirect.clear();
  slot.guest_id = 0;
  if (!let_go) violation("a grant still mapped at its response");
}

void FrontendQueue::wait_for_responses(Run& run) {
  ring_.arm();
  if (ring_.waiting() != 0) return;
  if (domain_.wait(port_, kWaitSliceMs)) {
    run.result.notifications_received++;
    return;
  }
  const Clock::time_point now = Clock::now();
  const std::string unanswered = std::to_string(run.in_flight) + " requests unanswered";
  if (run.control.cancelled.load(std::memory_order_relaxed)) {
    run.cancelled_at = std::min(run.cancelled_at, now);
    if (now - run.cancelled_at < kCancelGrace) return;
    throw std::runtime_error("cancelled with " + unanswered);
  }
  if (now - run.last_response < std::chrono::milliseconds(run.workload.response_timeout_ms)) return;
  throw std::runtime_error("no response from the backend in " +
                           std::to_string(run.workload.response_timeout_ms) + " ms, " + unanswered);
}

}  // namespace ringdisk
