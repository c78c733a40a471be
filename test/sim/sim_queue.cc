// SPDX-License-Identifier: Apache-2.0
#include "sim_queue.h"

#include <algorithm>
#include <cstring>

#include "platform/loopback/pattern.h"

namespace ringdisk::sim {
namespace {

constexpr std::byte kUntouched{0xa5};
constexpr uint8_t kNoSuchOperation = 9;
constexpr GrantRef kNeverGranted = 0x7fffffff;

size_t bytes_of(const PlannedSegment& segment) {
  return (segment.last_sect - segment.first_sect + 1u) * kSectorBytes;
}

}  // namespace

SimQueue::SimQueue(LoopbackDomain& domain, DiskModel& model, Tally& tally, uint32_t ring_page_order,
                   Abi abi, bool persistent)
    : domain_(domain),
      model_(model),
      tally_(tally),
      abi_(abi),
      first_page_(domain.allocate_pages(1u << ring_page_order)),
      page_count_(1u << ring_page_order),
      ring_(domain.page(first_page_), abi, page_count_),
      port_(domain.open_port()),
      buffers_(domain, persistent) {
  for (uint32_t i = 0; i < page_count_; i++) ring_refs_.push_back(domain_.grant(first_page_ + i));
}

SimQueue::~SimQueue() {
  for (const GrantRef gref : ring_refs_) domain_.revoke(gref);
  domain_.close_port(port_);
}

void SimQueue::submit(uint64_t guest_id, PlannedRequest plan) {
  InFlight& request = requests_[guest_id];
  request.plan = std::move(plan);
  take_pages(request);
  scatter(guest_id, request);
  tell_model(guest_id, request);
  put(guest_id, request);
  tally_.submitted++;
}

void SimQueue::take_pages(InFlight& request) {
  const bool backend_reads = request.plan.operation != wire::kRead;
  for (size_t i = 0; i < request.plan.segments.size(); i++)
    request.pages.push_back(buffers_.take(backend_reads));
  if (request.plan.indirect) request.segment_list.push_back(buffers_.take(true));
}

// A write's content, and around it, as in the pages of a read, what nobody may change.
void SimQueue::scatter(uint64_t guest_id, const InFlight& request) {
  uint64_t sector = request.plan.sector;
  for (size_t i = 0; i < request.pages.size(); i++) {
    std::byte* page = domain_.page(request.pages[i].page_index);
    std::memset(page, static_cast<int>(kUntouched), kPageBytes);
    if (request.plan.operation == wire::kRead) continue;
    const PlannedSegment& segment = request.plan.segments[i];
    for (uint32_t at = segment.first_sect; at <= segment.last_sect; at++)
      fill_sector(page + at * kSectorBytes, guest_id, sector++);
  }
}

void SimQueue::tell_model(uint64_t guest_id, InFlight& request) {
  const PlannedRequest& plan = request.plan;
  if (plan.writes()) model_.write_begins(guest_id, plan.sector, plan.sector_count);
  if (plan.discards()) model_.discard_begins(guest_id, plan.sector, plan.sector_count);
  if (plan.reads()) request.read_begun = model_.read_begins();
}

void SimQueue::put(uint64_t guest_id, InFlight& request) {
  const PlannedRequest& plan = request.plan;
  std::vector<FrontendSegment> segments;
  for (size_t i = 0; i < plan.segments.size(); i++)
    segments.push_back(
        {request.pages[i].gref, plan.segments[i].first_sect, plan.segments[i].last_sect});
  if (plan.flaw == Flaw::swapped_sectors) segments.back() = {segments.back().gref, 5, 4};
  if (plan.flaw == Flaw::ungranted_page) segments.back().gref = kNeverGranted;
  FrontendRequest sent{.operation = plan.operation, .guest_id = guest_id, .sector = plan.sector};
  sent.segments = segments;
  if (plan.operation == wire::kDiscard) sent.discard_sectors = plan.sector_count;
  if (plan.indirect) {
    encode_segments(segments, domain_.page(request.segment_list[0].page_index));
    sent.indirect_gref =
        plan.flaw == Flaw::ungranted_segment_list ? kNeverGranted : request.segment_list[0].gref;
  }
  ring_.put(sent);
  spoil_entry(request, entry(next_entry_++));
}

// What no frontend's encoder would write.
void SimQueue::spoil_entry(const InFlight& request, std::byte* entry) {
  if (request.plan.flaw == Flaw::too_many_segments)
    entry[wire::kNrSegments] = std::byte{kDirectSegmentsMax + 1};
  if (request.plan.flaw == Flaw::indirect_operation)
    entry[wire::kIndirectOperation] = std::byte{kNoSuchOperation};
}

std::byte* SimQueue::entry(uint32_t index) const {
  return domain_.page(first_page_) + wire::kRingHeaderBytes +
         (index & (ring_.entries() - 1)) * wire::layout(abi_).entry_bytes;
}

void SimQueue::publish() {
  if (ring_.publish()) domain_.notify(port_);
}

bool SimQueue::arm() {
  ring_.arm();
  return ring_.waiting() == 0;
}

uint32_t SimQueue::reap() {
  const uint32_t waiting = ring_.waiting();
  if (waiting == FrontendRing::kImpossible) throw Violation("more answers than requests");
  for (uint32_t i = 0; i < waiting; i++) answered(ring_.take());
  return waiting;
}

void SimQueue::answered(const FrontendResponse& response) {
  const auto found = requests_.find(response.guest_id);
  if (found == requests_.end())
    throw Violation("an answer to request " + std::to_string(response.guest_id) +
                    ", which is not in flight");
  const InFlight& request = found->second;
  const std::string which = "request " + std::to_string(response.guest_id);
  const uint8_t operation =
      request.plan.flaw == Flaw::indirect_operation ? kNoSuchOperation : request.plan.operation;
  if (response.operation != operation)
    throw Violation(which + " was answered with operation " + std::to_string(response.operation) +
                    " instead of " + std::to_string(operation));
  // A discard is a hint: the faulty disk may refuse it, and the guest is told.
  const bool refused_hint = request.plan.discards() && response.status == wire::kError;
  if (response.status != request.plan.expected_status() && !refused_hint)
    throw Violation(which + " (operation " + std::to_string(operation) + ", flaw " +
                    std::to_string(static_cast<int>(request.plan.flaw)) +
                    ") was answered with status " + std::to_string(response.status));
  check_read(request);
  check_write(response.guest_id, request);
  give_back(request);
  tally_.answered++;
  if (response.status != wire::kOkay) tally_.refused++;
  requests_.erase(found);
}

void SimQueue::check_write(uint64_t guest_id, const InFlight& request) {
  const PlannedRequest& plan = request.plan;
  if (plan.writes()) model_.write_ends(guest_id, plan.sector, plan.sector_count);
  if (plan.discards()) model_.discard_ends(guest_id, plan.sector, plan.sector_count);
}

void SimQueue::check_read(const InFlight& request) {
  if (!request.plan.reads()) return;
  const std::vector<std::byte> bytes = gather(request);
  const std::string wrong = model_.read_ends(request.read_begun, request.plan.sector, bytes);
  if (!wrong.empty()) throw Violation("a read found that " + wrong);
  tally_.sectors_checked += request.plan.sector_count;
}

// The data of a read, after a look at what lies around it.
std::vector<std::byte> SimQueue::gather(const InFlight& request) const {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < request.pages.size(); i++) {
    const std::byte* page = domain_.page(request.pages[i].page_index);
    const std::byte* first = page + request.plan.segments[i].first_sect * kSectorBytes;
    const std::byte* end = first + bytes_of(request.plan.segments[i]);
    const auto untouched = [](std::byte byte) { return byte == kUntouched; };
    if (!std::all_of(page, first, untouched) || !std::all_of(end, page + kPageBytes, untouched))
      throw Violation("a read changed more of a page than its sectors");
    bytes.insert(bytes.end(), first, end);
  }
  return bytes;
}

void SimQueue::give_back(const InFlight& request) {
  bool let_go = true;
  for (const FrontendBuffer& page : request.pages) let_go &= buffers_.give_back(page);
  for (const FrontendBuffer& page : request.segment_list) let_go &= buffers_.give_back(page);
  if (!let_go) throw Violation("a request was answered while one of its pages was in use");
}

std::string SimQueue::unanswered() const {
  std::string text;
  for (const auto& [guest_id, request] : requests_)
    text += " " + std::to_string(guest_id) + "(operation " +
            std::to_string(request.plan.operation) + ")";
  return text;
}

}  // namespace ringdisk::sim
