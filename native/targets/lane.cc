// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

#include "base/assert.h"
#include "targets/lanes.h"
#include "targets/worker_link.h"

namespace ringdisk {
namespace {

// What a waiting operation wants is kept in the channel's scratch space: submitting allocates
// nothing.
LaneCall& wanted(Operation& operation) {
  return *reinterpret_cast<LaneCall*>(operation.scratch + kLaneScratch);
}

Fd make_memory() {
  Fd memory = Fd::checked(::memfd_create("ringdisk-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING),
                          "cannot make a lane");
  if (::ftruncate(memory.get(), kLaneBytes) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot size a lane");
  // Whoever shortens it would kill the other side.
  ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return memory;
}

}  // namespace

Lane::Lane(Lanes& lanes, std::shared_ptr<WorkerLink> worker)
    : lanes_(lanes), worker_(std::move(worker)) {
  static std::atomic<uint32_t> next_id{1};
  id_ = next_id.fetch_add(1, std::memory_order_relaxed);
  Fd memory = make_memory();
  void* mapped = ::mmap(nullptr, kLaneBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a lane");
  header_ = new (mapped) LaneHeader{};
  for (uint32_t i = 0; i < kLaneEntries; i++) free_tags_[i] = kLaneEntries - 1 - i;
  lanes_.all_.emplace(id_, this);
  worker_->add_lane(id_, lanes_, std::move(memory));
}

Lane::~Lane() {
  RD_ASSERT(free_tag_count_ == kLaneEntries && !waiting_ && !back_);
  worker_->remove_lane(id_);
  lanes_.all_.erase(id_);
  std::erase(lanes_.busy_, this);
  std::erase(lanes_.unrung_, this);
  ::munmap(header_, kLaneBytes);
}

std::byte* Lane::window() const { return reinterpret_cast<std::byte*>(header_) + kLaneHeaderBytes; }

void Lane::submit(Operation& operation, LaneCall call) {
  lanes_.in_flight_++;
  if (!busy_) {
    busy_ = true;
    lanes_.busy_.push_back(this);
  }
  if (!worker_->is_up()) return give_back(operation, -EIO);
  wanted(operation) = call;
  if (!waiting_ && try_send(operation, call)) return;
  operation.next = nullptr;
  *waiting_tail_ = &operation;
  waiting_tail_ = &operation.next;
}

// False: no room.
bool Lane::try_send(Operation& operation, LaneCall call) {
  if (free_tag_count_ == 0) return false;
  Outstanding one{&operation, call, 0, 0};
  if (uses_window(call) &&
      !reserve_window(window_bytes(call, operation.part), one.window_page, one.window_pages))
    return false;
  const uint32_t tag = free_tags_[--free_tag_count_];
  outstanding_[tag] = one;
  if (call == LaneCall::write)
    std::memcpy(window() + size_t{one.window_page} * kPageBytes, operation.memory + operation.done,
                operation.part);
  push(tag);
  return true;
}

void Lane::push(uint32_t tag) {
  const Outstanding& one = outstanding_[tag];
  const Operation& operation = *one.operation;
  const uint32_t index = header_->submitted.load(std::memory_order_relaxed);
  header_->submissions[index % kLaneEntries] = {one.call,
                                                tag,
                                                operation.offset + operation.done,
                                                operation.part,
                                                one.window_page * kPageBytes,
                                                0};
  header_->submitted.store(index + 1, std::memory_order_release);
  if (unrung_) return;
  unrung_ = true;
  lanes_.unrung_.push_back(this);
}

void Lane::send_waiting() {
  while (Operation* operation = waiting_) {
    Operation* next = operation->next;
    if (operation->cancelled) {
      give_back(*operation, -ECANCELED);
    } else if (!try_send(*operation, wanted(*operation))) {
      operation->next = next;
      return;
    }
    waiting_ = next;
    if (!waiting_) waiting_tail_ = &waiting_;
  }
}

void Lane::give_back(Operation& operation, int32_t result) {
  operation.part_result = result;
  operation.next = nullptr;
  *back_tail_ = &operation;
  back_tail_ = &operation.next;
}

bool Lane::has_completions() const {
  return back_ != nullptr || header_->completed.load(std::memory_order_acquire) != seen_;
}

// What cannot be right is its worker's fault, and ends that one, not us.
void Lane::take_completions() {
  const uint32_t end = header_->completed.load(std::memory_order_acquire);
  if (end - seen_ > kLaneEntries) return distrust(end);
  for (; seen_ != end; seen_++) {
    const LaneCompletion done = header_->completions[seen_ % kLaneEntries];
    if (done.tag >= kLaneEntries || !outstanding_[done.tag].operation) return distrust(end);
    Outstanding& one = outstanding_[done.tag];
    Operation& operation = *one.operation;
    const bool brings_data = one.call == LaneCall::read || maps(one.call);
    const uint64_t most = uses_window(one.call) ? window_bytes(one.call, operation.part) : 0;
    if (brings_data && done.result > 0)
      std::memcpy(operation.memory + operation.done,
                  window() + size_t{one.window_page} * kPageBytes,
                  std::min<uint64_t>(static_cast<uint64_t>(done.result), most));
    if (one.window_pages > 0) release_window(one.window_page, one.window_pages);
    one = {};
    free_tags_[free_tag_count_++] = done.tag;
    const bool too_much = done.result > 0 && static_cast<uint64_t>(done.result) > most;
    give_back(operation, too_much ? -EIO : done.result);
  }
  if (waiting_) send_waiting();
}

// Nothing more is taken of it: what it has not answered is the next one's.
void Lane::distrust(uint32_t end) {
  seen_ = end;
  worker_->end_process();
}

// What the dead worker did is done again: nothing else happens to these blocks before the answer.
void Lane::start_over() {
  take_completions();
  header_->submitted.store(0, std::memory_order_relaxed);
  header_->completed.store(0, std::memory_order_relaxed);
  seen_ = 0;
  for (uint32_t tag = 0; tag < kLaneEntries; tag++)
    if (outstanding_[tag].operation) push(tag);
  send_waiting();
}

void Lane::fail_all() {
  take_completions();
  for (uint32_t tag = 0; tag < kLaneEntries; tag++) {
    Outstanding& one = outstanding_[tag];
    if (!one.operation) continue;
    if (one.window_pages > 0) release_window(one.window_page, one.window_pages);
    free_tags_[free_tag_count_++] = tag;
    give_back(*one.operation, -EIO);
    one = {};
  }
  while (waiting_) {
    Operation* operation = waiting_;
    waiting_ = operation->next;
    give_back(*operation, -EIO);
  }
  waiting_tail_ = &waiting_;
}

void Lane::cancel_discards() {
  header_->no_discards.store(1, std::memory_order_release);
  if (waiting_) send_waiting();
}

bool Lane::give_memory_back() {
  constexpr uint32_t kSlicePages = 512;
  const uint32_t used = used_window_end();
  if (touched_pages_ <= used) return true;
  const uint32_t pages = std::min(touched_pages_ - used, kSlicePages);
  touched_pages_ -= pages;
  ::madvise(window() + size_t{touched_pages_} * kPageBytes, size_t{pages} * kPageBytes,
            MADV_REMOVE);
  return touched_pages_ == used;
}

uint32_t Lane::used_window_end() const {
  for (uint32_t word = kLaneWindowPages / 64; word > 0; word--)
    if (window_used_[word - 1] != 0)
      return word * 64 - static_cast<uint32_t>(std::countl_zero(window_used_[word - 1]));
  return 0;
}

// First fit, so that what is used lies together and the rest is never touched.
bool Lane::reserve_window(uint64_t bytes, uint32_t& page, uint32_t& pages) {
  pages = static_cast<uint32_t>((bytes + kPageBytes - 1) / kPageBytes);
  uint32_t run = 0;
  for (uint32_t at = 0; at < kLaneWindowPages; at++) {
    if (run == 0 && at % 64 == 0 && window_used_[at / 64] == UINT64_MAX) {
      at += 63;
      continue;
    }
    const bool used = (window_used_[at / 64] >> (at % 64) & 1) != 0;
    run = used ? 0 : run + 1;
    if (run < pages) continue;
    page = at + 1 - pages;
    for (uint32_t one = page; one <= at; one++) window_used_[one / 64] |= uint64_t{1} << one % 64;
    touched_pages_ = std::max(touched_pages_, at + 1);
    return true;
  }
  return false;
}

void Lane::release_window(uint32_t page, uint32_t pages) {
  for (uint32_t one = page; one < page + pages; one++)
    window_used_[one / 64] &= ~(uint64_t{1} << one % 64);
}

}  // namespace ringdisk
