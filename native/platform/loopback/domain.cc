// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/domain.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "base/assert.h"

namespace ringdisk {

namespace {

// Xen reserves the first grefs of every domain for the toolstack's own pages.
constexpr uint32_t kFirstGref = 8;
// Every page can be granted twice over: once for good and once for a request.
constexpr uint32_t kGrantsPerPage = 2;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void* create_mapped(const std::string& path, size_t bytes) {
  const Fd file =
      Fd::checked(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), path);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) fail(path);
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) fail(path);
  return address;
}

Fd create_fifo(const std::string& path) {
  if (::mkfifo(path.c_str(), 0600) != 0) fail(path);
  Fd fifo = open_fifo(path);
  if (!fifo.valid()) fail(path);
  return fifo;
}

}  // namespace

uint32_t LoopbackDomain::Pool::take() {
  if (!free.empty()) {
    const uint32_t number = free.back();
    free.pop_back();
    return number;
  }
  return take_consecutive(1);
}

uint32_t LoopbackDomain::Pool::take_consecutive(uint32_t count) {
  if (end - next < count)
    throw std::runtime_error("the loopback guest has no pages or grants left");
  next += count;
  return next - count;
}

LoopbackDomain::LoopbackDomain(const std::string& machine_dir, Domid domid, uint32_t page_count)
    : domid_(domid),
      dir_(domain_dir(machine_dir, domid)),
      page_count_(page_count),
      grant_count_(kFirstGref + page_count * kGrantsPerPage),
      pages_{0, page_count, {}},
      grefs_{kFirstGref, grant_count_, {}} {
  RD_ASSERT(page_count > 0 && page_count <= kLoopbackPagesMax);
  RD_ASSERT(grant_count_ <= kLoopbackGrantsMax);
  std::filesystem::remove_all(dir_);
  if (::mkdir(dir_.c_str(), 0700) != 0) fail(dir_);
  memory_ =
      static_cast<std::byte*>(create_mapped(memory_path(dir_), size_t{page_count_} * kPageBytes));
  grants_ = static_cast<GrantEntry*>(
      create_mapped(grants_path(dir_), size_t{grant_count_} * sizeof(GrantEntry)));
}

LoopbackDomain::~LoopbackDomain() {
  ::munmap(grants_, size_t{grant_count_} * sizeof(GrantEntry));
  ::munmap(memory_, size_t{page_count_} * kPageBytes);
  std::error_code ignored;  // a folder that is gone already is as good
  std::filesystem::remove_all(dir_, ignored);
}

uint32_t LoopbackDomain::allocate_page() {
  const std::lock_guard lock(mutex_);
  return pages_.take();
}

uint32_t LoopbackDomain::allocate_pages(uint32_t count) {
  const std::lock_guard lock(mutex_);
  return pages_.take_consecutive(count);
}

void LoopbackDomain::free_page(uint32_t index) {
  const std::lock_guard lock(mutex_);
  pages_.free.push_back(index);
}

GrantRef LoopbackDomain::grant(uint32_t page_index, bool readonly) {
  GrantRef gref;
  {
    const std::lock_guard lock(mutex_);
    gref = grefs_.take();
  }
  GrantEntry& entry = grants_[gref];
  entry.page.store(page_index, std::memory_order_relaxed);
  const uint32_t readonly_flag = readonly ? GrantEntry::kReadonly : 0;
  entry.state.store(GrantEntry::kGranted | readonly_flag, std::memory_order_release);
  return gref;
}

bool LoopbackDomain::revoke(GrantRef gref) {
  constexpr uint32_t kFlags = GrantEntry::kGranted | GrantEntry::kReadonly;
  const uint32_t before = grants_[gref].state.fetch_and(~kFlags, std::memory_order_acq_rel);
  if (before >= GrantEntry::kOneUse) return false;
  const std::lock_guard lock(mutex_);
  grefs_.free.push_back(gref);
  return true;
}

uint32_t LoopbackDomain::grants_in_use() const {
  uint32_t end;
  {
    const std::lock_guard lock(mutex_);
    end = grefs_.next;
  }
  uint32_t count = 0;
  for (GrantRef gref = kFirstGref; gref < end; gref++) count += in_use(gref) ? 1 : 0;
  return count;
}

void LoopbackDomain::forget_backend() {
  constexpr uint32_t kFlags = GrantEntry::kGranted | GrantEntry::kReadonly;
  for (GrantRef gref = kFirstGref; gref < grant_count_; gref++)
    if (in_use(gref)) grants_[gref].state.fetch_and(kFlags, std::memory_order_relaxed);
}

Port LoopbackDomain::open_port() {
  const std::lock_guard lock(mutex_);
  const Port port = next_port_++;
  Channel opened;
  opened.to_backend = create_fifo(to_backend_path(dir_, port));
  opened.to_frontend = create_fifo(to_frontend_path(dir_, port));
  channels_.emplace(port, std::move(opened));
  return port;
}

void LoopbackDomain::close_port(Port port) {
  const std::lock_guard lock(mutex_);
  RD_ASSERT(channels_.erase(port) == 1);
  ::unlink(to_backend_path(dir_, port).c_str());
  ::unlink(to_frontend_path(dir_, port).c_str());
}

int LoopbackDomain::fifo(Port port, Fd Channel::* end) {
  const std::lock_guard lock(mutex_);
  const auto found = channels_.find(port);
  RD_ASSERT(found != channels_.end());
  return (found->second.*end).get();
}

void LoopbackDomain::notify(Port port) { raise_event(fifo(port, &Channel::to_backend)); }

bool LoopbackDomain::wait(Port port, int timeout_ms) {
  const int from_backend = fifo(port, &Channel::to_frontend);
  pollfd readable{from_backend, POLLIN, 0};
  if (::poll(&readable, 1, timeout_ms) <= 0) return false;
  return drain_events(from_backend);
}

}  // namespace ringdisk
