// SPDX-License-Identifier: Apache-2.0
#include "ring/ring.h"

#include <atomic>
#include <cstring>

#include "base/assert.h"
#include "base/guest_memory.h"

namespace ringdisk {

Ring::Ring(std::byte* shared, Abi abi, uint32_t pages)
    : shared_(shared), abi_(abi), entries_(wire::ring_entries(abi, pages)) {
  RD_ASSERT(pages >= 1 && pages <= kRingPagesMax);
  rsp_prod_ = rsp_published_ = req_cons_ = load(wire::kRspProd);
}

void Ring::resume(uint32_t published, uint32_t taken) {
  rsp_prod_ = rsp_published_ = published;
  req_cons_ = taken;
}

uint32_t Ring::load(size_t offset) const {
  auto* word = reinterpret_cast<uint32_t*>(shared_ + offset);
  return std::atomic_ref<uint32_t>(*word).load(std::memory_order_acquire);
}

void Ring::store(size_t offset, uint32_t value) {
  auto* word = reinterpret_cast<uint32_t*>(shared_ + offset);
  std::atomic_ref<uint32_t>(*word).store(value, std::memory_order_release);
}

std::byte* Ring::entry(uint32_t index) const {
  return shared_ + wire::kRingHeaderBytes +
         (index & (entries_ - 1)) * wire::layout(abi_).entry_bytes;
}

uint32_t Ring::waiting() const {
  const uint32_t producer = load(wire::kReqProd);
  // Both differences count modulo 2^32, so a producer that went backwards looks far ahead.
  if (producer - rsp_prod_ > entries_) return kImpossible;
  const uint32_t waiting = producer - req_cons_;
  return waiting > entries_ ? kImpossible : waiting;
}

uint32_t Ring::take(std::span<std::byte, wire::kEntryBytesMax> bytes) {
  // Both sizes are constants, so that the copy is a few instructions and no call.
  if (abi_ == Abi::x86_32)
    copy_once(bytes.data(), entry(req_cons_), wire::kLayout32.entry_bytes);
  else
    copy_once(bytes.data(), entry(req_cons_), wire::kLayout64.entry_bytes);
  return req_cons_++;
}

void Ring::arm() {
  store(wire::kReqEvent, req_cons_ + 1);
  // The store must be visible before waiting() looks again, or a request could slip in between.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Ring::hold_off() { store(wire::kReqEvent, req_cons_); }

uint32_t Ring::respond(uint64_t guest_id, uint8_t operation, int16_t status) {
  RD_ASSERT(rsp_prod_ != req_cons_);  // never more responses than requests
  std::byte* to = entry(rsp_prod_);
  // Padding is cleared too: whatever the stack held is none of the guest's business (XSA-216).
  std::memset(to, 0, wire::layout(abi_).response_bytes);
  std::memcpy(to + wire::kResponseId, &guest_id, sizeof guest_id);
  std::memcpy(to + wire::kResponseOperation, &operation, sizeof operation);
  std::memcpy(to + wire::kResponseStatus, &status, sizeof status);
  return rsp_prod_++;
}

bool Ring::publish() {
  const uint32_t before = rsp_published_;
  store(wire::kRspProd, rsp_prod_);
  rsp_published_ = rsp_prod_;
  // The index must be visible before rsp_event is read, or both sides could wait for the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint32_t wanted = load(wire::kRspEvent);
  return rsp_prod_ - wanted < rsp_prod_ - before;
}

}  // namespace ringdisk
