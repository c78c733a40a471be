// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/frontend_ring.h"

#include <atomic>
#include <cstring>

#include "base/assert.h"

namespace ringdisk {

namespace {

template <typename T>
void put_at(std::byte* to, size_t offset, T value) {
  std::memcpy(to + offset, &value, sizeof(value));
}

template <typename T>
T get_at(const std::byte* from, size_t offset) {
  T value;
  std::memcpy(&value, from + offset, sizeof(value));
  return value;
}

}  // namespace

void encode_segments(std::span<const FrontendSegment> segments, std::byte* to) {
  for (const FrontendSegment& segment : segments) {
    put_at<uint64_t>(to, 0, 0);
    put_at<uint32_t>(to, 0, segment.gref);
    put_at<uint8_t>(to, 4, segment.first_sect);
    put_at<uint8_t>(to, 5, segment.last_sect);
    to += wire::kSegmentBytes;
  }
}

void encode(const FrontendRequest& request, Abi abi, std::byte* entry) {
  const wire::Layout& layout = wire::layout(abi);
  std::memset(entry, 0, layout.entry_bytes);
  put_at<uint64_t>(entry, layout.id, request.guest_id);
  put_at<uint64_t>(entry, layout.sector, request.sector);
  if (request.indirect()) {
    put_at<uint8_t>(entry, 0, wire::kIndirect);
    put_at<uint8_t>(entry, wire::kIndirectOperation, request.operation);
    put_at<uint16_t>(entry, wire::kIndirectNrSegments,
                     static_cast<uint16_t>(request.segments.size()));
    put_at<uint32_t>(entry, layout.indirect_grefs, request.indirect_gref);
    return;
  }
  put_at<uint8_t>(entry, 0, request.operation);
  if (request.operation == wire::kDiscard) {
    put_at<uint64_t>(entry, layout.discard_sectors, request.discard_sectors);
    return;
  }
  put_at<uint8_t>(entry, wire::kNrSegments, static_cast<uint8_t>(request.segments.size()));
  encode_segments(request.segments, entry + layout.segments);
}

FrontendRing::FrontendRing(std::byte* shared, Abi abi, uint32_t pages)
    : shared_(shared), abi_(abi), entries_(wire::ring_entries(abi, pages)) {
  std::memset(shared, 0, size_t{pages} * kPageBytes);
  store(wire::kReqEvent, 1);
  store(wire::kRspEvent, 1);
}

uint32_t FrontendRing::load(size_t offset) const {
  auto* word = reinterpret_cast<uint32_t*>(shared_ + offset);
  return std::atomic_ref<uint32_t>(*word).load(std::memory_order_acquire);
}

void FrontendRing::store(size_t offset, uint32_t value) {
  auto* word = reinterpret_cast<uint32_t*>(shared_ + offset);
  std::atomic_ref<uint32_t>(*word).store(value, std::memory_order_release);
}

std::byte* FrontendRing::entry(uint32_t index) const {
  const size_t position = index & (entries_ - 1);
  return shared_ + wire::kRingHeaderBytes + position * wire::layout(abi_).entry_bytes;
}

void FrontendRing::put(const FrontendRequest& request) {
  RD_ASSERT(!full());
  encode(request, abi_, entry(req_prod_));
  req_prod_++;
}

bool FrontendRing::publish() {
  const uint32_t before = req_published_;
  if (before == req_prod_) return false;
  store(wire::kReqProd, req_prod_);
  req_published_ = req_prod_;
  // A backend that goes to sleep writes req_event, then reads req_prod: one of us sees the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return req_prod_ - load(wire::kReqEvent) < req_prod_ - before;
}

uint32_t FrontendRing::waiting() const {
  const uint32_t waiting = load(wire::kRspProd) - rsp_cons_;
  return waiting <= req_published_ - rsp_cons_ ? waiting : kImpossible;
}

FrontendResponse FrontendRing::take() {
  const std::byte* from = entry(rsp_cons_);
  rsp_cons_++;
  return {get_at<uint64_t>(from, wire::kResponseId),
          get_at<uint8_t>(from, wire::kResponseOperation),
          get_at<int16_t>(from, wire::kResponseStatus)};
}

void FrontendRing::arm() {
  store(wire::kRspEvent, rsp_cons_ + 1);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace ringdisk
