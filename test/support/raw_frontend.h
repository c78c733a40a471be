// SPDX-License-Identifier: Apache-2.0
// A blkif frontend without manners: it writes any bytes into its ring and moves its indices as it
// likes. What the backend does to it is checked all the same: each answer belongs to a request that
// is waiting for one, names its operation, and comes once.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "blkif_structs.h"
#include "platform/loopback/domain.h"
#include "protocol/abi.h"

namespace ringdisk {

// One entry, before it is one. `count` is the number of segments, or the discard's flag.
struct RawRequest {
  uint8_t operation = wire::kRead;
  uint8_t count = 0;
  uint64_t sector = 0;
  std::vector<xen_abi::Segment> segments{};
  uint64_t discard_sectors = 0;
  uint8_t indirect_operation = wire::kRead;
  uint16_t indirect_count = 0;
  GrantRef indirect_gref = 0;
};

struct RawResponse {
  uint64_t id;
  uint8_t operation;
  int16_t status;
};

inline RawRequest raw_data(uint8_t operation, uint64_t sector,
                           const std::vector<xen_abi::Segment>& segments) {
  return {.operation = operation,
          .count = static_cast<uint8_t>(segments.size()),
          .sector = sector,
          .segments = segments};
}
inline RawRequest raw_flush() { return {.operation = wire::kFlushDiskcache}; }
inline RawRequest raw_discard(uint64_t sector, uint64_t sectors, uint8_t flag = 0) {
  return {.operation = wire::kDiscard, .count = flag, .sector = sector, .discard_sectors = sectors};
}
inline RawRequest raw_indirect(uint8_t operation, uint64_t sector, uint16_t count, GrantRef gref) {
  return {.operation = wire::kIndirect,
          .sector = sector,
          .indirect_operation = operation,
          .indirect_count = count,
          .indirect_gref = gref};
}

// A page of the guest with a grant for it.
struct GuestPage {
  GuestPage(LoopbackDomain& domain_of, bool readonly = false)
      : domain(domain_of), index(domain.allocate_page()), gref(domain.grant(index, readonly)) {}
  std::byte* data() const { return domain.page(index); }
  void fill(int value) const { std::memset(data(), value, kPageBytes); }
  bool is_filled(int value, size_t from = 0, size_t to = kPageBytes) const {
    for (size_t i = from; i < to; i++)
      if (data()[i] != static_cast<std::byte>(value)) return false;
    return true;
  }
  xen_abi::Segment segment(uint8_t first = 0, uint8_t last = 7) const {
    return {gref, first, last, 0};
  }

  LoopbackDomain& domain;
  uint32_t index;
  GrantRef gref;
};

class RawFrontend {
 public:
  RawFrontend(LoopbackDomain& domain, uint32_t pages, Abi abi = Abi::x86_64, uint32_t start = 0)
      : domain_(domain),
        abi_(abi),
        entries_(32 * pages),
        port_(domain.open_port()),
        req_prod_(start),
        rsp_cons_(start) {
    const uint32_t first = domain.allocate_pages(pages);
    for (uint32_t i = 0; i < pages; i++) ring_refs.push_back(domain.grant(first + i));
    shared_ = domain.page(first);
    std::memset(shared_, 0, pages * kPageBytes);
    store(header().req_prod, start);
    store(header().rsp_prod, start);
    store(header().req_event, start + 1);
    store(header().rsp_event, start + 1);
  }

  uint32_t entries() const { return entries_; }
  Port port() const { return port_; }
  xen_abi::RingHeader& header() { return *reinterpret_cast<xen_abi::RingHeader*>(shared_); }
  static uint32_t load(uint32_t& word) { return std::atomic_ref<uint32_t>(word).load(); }
  static void store(uint32_t& word, uint32_t value) {
    std::atomic_ref<uint32_t>(word).store(value);
  }
  std::byte* shared() { return shared_; }

  // Writes the next entry; returns the id its answer will carry. Nothing is published.
  uint64_t put(const RawRequest& request) {
    const uint64_t id = next_id_++;
    std::byte* entry = shared_ + sizeof(xen_abi::RingHeader) +
                       req_prod_++ % entries_ * (abi_ == Abi::x86_64 ? 112 : 108);
    if (abi_ == Abi::x86_64)
      write<xen_abi::x86_64::Entry>(entry, request, id);
    else
      write<xen_abi::x86_32::Entry>(entry, request, id);
    awaited_[id] =
        request.operation == wire::kIndirect ? request.indirect_operation : request.operation;
    return id;
  }
  // Shows the backend all entries; notifies when it asked to be, as a well-behaved frontend does.
  void publish() {
    const uint32_t before = load(header().req_prod);
    store(header().req_prod, req_prod_);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (req_prod_ - load(header().req_event) < req_prod_ - before) notify();
  }
  void notify() { domain_.notify(port_); }
  uint64_t send(const RawRequest& request) {
    const uint64_t id = put(request);
    publish();
    return id;
  }

  size_t unanswered() const { return awaited_.size(); }
  bool has_answers() { return load(header().rsp_prod) != rsp_cons_; }
  // The next answer; waits (bounded) until there is one.
  RawResponse answer() {
    await_answer();
    const RawResponse response = take();
    const auto found = awaited_.find(response.id);
    REQUIRE_MESSAGE(found != awaited_.end(), "answer to nothing: id " << response.id);
    CHECK(response.operation == found->second);
    awaited_.erase(found);
    return response;
  }
  // The status of this one request, sent alone.
  int16_t ask(const RawRequest& request) {
    const uint64_t id = send(request);
    const RawResponse response = answer();
    CHECK(response.id == id);
    return response.status;
  }
  // Statuses by id of all requests that wait.
  std::map<uint64_t, int16_t> all_answers() {
    std::map<uint64_t, int16_t> statuses;
    while (!awaited_.empty()) {
      const RawResponse response = answer();
      statuses[response.id] = response.status;
    }
    return statuses;
  }
  // For tests that spoil their own ids: an answer without looking at it, and a fresh start.
  void forget() { awaited_.clear(); }
  RawResponse take_unchecked() {
    await_answer();
    return take();
  }
  // Whether a notification comes within `timeout_ms`.
  bool notified(int timeout_ms) { return domain_.wait(port_, timeout_ms); }

  std::vector<GrantRef> ring_refs;

 private:
  template <typename Entry>
  static void write(std::byte* to, const RawRequest& request, uint64_t id) {
    Entry entry;
    std::memset(&entry, 0, sizeof entry);
    entry.rw.operation = request.operation;
    entry.rw.nr_segments = request.count;
    entry.rw.id = id;
    entry.rw.sector_number = request.sector;
    for (size_t i = 0; i < request.segments.size() && i < 11; i++)
      entry.rw.seg[i] = request.segments[i];
    if (request.operation == wire::kDiscard) entry.discard.nr_sectors = request.discard_sectors;
    if (request.operation == wire::kIndirect) {
      entry.indirect.indirect_op = request.indirect_operation;
      entry.indirect.nr_segments = request.indirect_count;
      entry.indirect.indirect_grefs[0] = request.indirect_gref;
    }
    std::memcpy(to, &entry, sizeof entry);
  }

  void await_answer() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!has_answers()) {
      REQUIRE_MESSAGE(std::chrono::steady_clock::now() < end, "no answer");
      store(header().rsp_event, rsp_cons_ + 1);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (!has_answers()) domain_.wait(port_, 1000);
    }
    REQUIRE(load(header().rsp_prod) - rsp_cons_ <= entries_);
  }
  RawResponse take() {
    const std::byte* entry = shared_ + sizeof(xen_abi::RingHeader) +
                             rsp_cons_++ % entries_ * (abi_ == Abi::x86_64 ? 112 : 108);
    xen_abi::x86_32::Response response;  // the same fields in both
    std::memcpy(&response, entry, sizeof response);
    return {response.id, response.operation, response.status};
  }

  LoopbackDomain& domain_;
  const Abi abi_;
  const uint32_t entries_;
  std::byte* shared_;
  Port port_;
  uint32_t req_prod_;
  uint32_t rsp_cons_;
  uint64_t next_id_ = 0x1000'0000'0001;
  std::map<uint64_t, uint8_t> awaited_;  // id to the operation the answer names
};

}  // namespace ringdisk
