// SPDX-License-Identifier: Apache-2.0
// One shared ring, seen from the backend. The only code that touches a ring page: every load is a
// single access, indices are checked before use, and a request is copied out exactly once
// (XSA-155).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/abi.h"

namespace ringdisk {

class Ring {
 public:
  // `shared` are the ring's mapped pages; they outlive this object. Starts at the ring's published
  // response index: with everything before it answered, that is where the frontend stands.
  Ring(std::byte* shared, Abi abi, uint32_t pages);
  // Goes on where another process stopped: `published` responses were shown to the frontend and
  // `taken` requests came out.
  void resume(uint32_t published, uint32_t taken);

  uint32_t entries() const { return entries_; }
  Abi abi() const { return abi_; }

  // Requests waiting, at most entries(); or kImpossible when the producer index cannot be right, in
  // which case the ring must never be read again (CVE-2010-4247).
  static constexpr uint32_t kImpossible = UINT32_MAX;
  uint32_t waiting() const;

  // Copies the next entry into `bytes` (kEntryBytesMax); only after waiting() > 0.
  // Returns its request index.
  uint32_t take(std::span<std::byte, wire::kEntryBytesMax> bytes);
  uint32_t req_cons() const { return req_cons_; }

  // Asks the frontend to notify us on its next request. Look at waiting() once more afterwards.
  void arm();
  // Takes arm() back: no notifications while we are polling anyway.
  void hold_off();

  // Puts a response into the next position, invisible until publish(). Returns its index.
  uint32_t respond(uint64_t guest_id, uint8_t operation, int16_t status);
  // Makes all responses visible at once. Returns whether the frontend wants to be notified.
  bool publish();
  bool has_unpublished() const { return rsp_published_ != rsp_prod_; }
  uint32_t rsp_prod() const { return rsp_prod_; }

 private:
  uint32_t load(size_t offset) const;
  void store(size_t offset, uint32_t value);
  std::byte* entry(uint32_t index) const;

  std::byte* shared_;
  Abi abi_;
  uint32_t entries_;
  uint32_t req_cons_;
  uint32_t rsp_prod_;       // private: responses written
  uint32_t rsp_published_;  // what the frontend has been shown
};

}  // namespace ringdisk
