// SPDX-License-Identifier: Apache-2.0
#include "targets/worker_link.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <system_error>

#include "targets/workers.h"

namespace ringdisk {
namespace {

constexpr std::array<const char*, kLaneCalls> kCallNames = {
    "read", "write", "flush", "discard", "discard", "secure discard",
    "zero", "zero",  "zero",  "map",     "map"};
static_assert(kCallNames.back() != nullptr);

}  // namespace

WorkerLink::WorkerLink(Workers& workers)
    : workers_(workers),
      page_memory_(Fd::checked(::memfd_create("ringdisk-worker", MFD_CLOEXEC),
                               "cannot make a worker's page")) {
  if (::ftruncate(page_memory_.get(), kPageBytes) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot size a worker's page");
  void* mapped =
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, page_memory_.get(), 0);
  if (mapped == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map a worker's page");
  page_ = new (mapped) WorkerPage{};
}

WorkerLink::~WorkerLink() { ::munmap(page_, kPageBytes); }

void WorkerLink::ring_if_idle() {
  if (page_->idle.load(std::memory_order_seq_cst) == 0) return;
  page_->bell.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&page_->bell), FUTEX_WAKE, 1, nullptr, nullptr,
            0);
}

void WorkerLink::add_lane(uint32_t id, Lanes& lanes, Fd memory) {
  workers_.add_lane(shared_from_this(), id, lanes, std::move(memory));
}

void WorkerLink::remove_lane(uint32_t id) { workers_.remove_lane(shared_from_this(), id); }

void WorkerLink::end_process() { workers_.end_process(shared_from_this()); }

std::vector<TargetWait> WorkerLink::waits(uint64_t before_us) const {
  std::vector<TargetWait> all;
  for (const WorkerPage::Doing& doing : page_->doing) {
    const uint32_t call = doing.call.load(std::memory_order_acquire);
    const uint64_t since = doing.since_us.load(std::memory_order_relaxed);
    if (call == 0 || call > kLaneCalls || since > before_us) continue;
    const char* name = kCallNames[call - 1];
    const auto same = std::ranges::find(all, name, &TargetWait::call);
    if (same == all.end()) {
      all.push_back({name, since, 1});
    } else {
      same->since_us = std::min(same->since_us, since);
      same->count++;
    }
  }
  return all;
}

}  // namespace ringdisk
