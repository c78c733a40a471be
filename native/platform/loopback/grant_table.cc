// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/grant_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace ringdisk {

namespace {

// A guest's file, mapped as a whole. Its size is taken once, bounded, and believed from then on.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (bytes_ > 0) ::munmap(address_, bytes_);
  }

  // Maps whole units of `unit_bytes`, at least one and at most `units_max`. Returns 0 or -errno.
  int open(const std::string& path, uint32_t unit_bytes, uint32_t units_max) {
    fd_ = Fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
    struct stat status;
    if (!fd_.valid() || ::fstat(fd_.get(), &status) != 0) return -errno;
    if (!S_ISREG(status.st_mode)) return -EINVAL;
    const uint64_t units = static_cast<uint64_t>(status.st_size) / unit_bytes;
    count_ = static_cast<uint32_t>(std::min<uint64_t>(units, units_max));
    if (count_ == 0) return -EINVAL;
    const size_t bytes = size_t{count_} * unit_bytes;
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (address == MAP_FAILED) return -errno;
    address_ = address;
    bytes_ = bytes;
    return 0;
  }

  int fd() const { return fd_.get(); }
  void* address() const { return address_; }
  uint32_t count() const { return count_; }

 private:
  Fd fd_;
  void* address_ = nullptr;
  size_t bytes_ = 0;
  uint32_t count_ = 0;
};

}  // namespace

class LoopbackGrantTable::Guest {
 public:
  int open(const std::string& dir) {
    const int result = memory_.open(memory_path(dir), kPageBytes, kLoopbackPagesMax);
    if (result != 0) return result;
    return grants_.open(grants_path(dir), sizeof(GrantEntry), kLoopbackGrantsMax);
  }

  // Takes one use of `gref` and finds its page. Returns 0 or -errno with no use taken.
  int take(GrantRef gref, bool writable, uint32_t& page_index) {
    if (gref >= grants_.count()) return -EINVAL;
    const int result = entry(gref).take_use(writable, page_index);
    if (result != 0) return result;
    if (page_index < memory_.count()) return 0;
    entry(gref).drop_use();
    return -EINVAL;
  }
  void drop(GrantRef gref) { entry(gref).drop_use(); }

  std::byte* page(uint32_t index) {
    return static_cast<std::byte*>(memory_.address()) + size_t{index} * kPageBytes;
  }

  // Takes one use of each. Returns 0, or -errno with none taken.
  int take_all(std::span<const GrantRef> grefs, bool writable, std::span<uint32_t> pages) {
    for (size_t i = 0; i < grefs.size(); i++) {
      const int result = take(grefs[i], writable, pages[i]);
      if (result == 0) continue;
      drop_all(grefs.first(i));
      return result;
    }
    return 0;
  }
  void drop_all(std::span<const GrantRef> grefs) {
    for (const GrantRef gref : grefs) drop(gref);
  }

  // Maps `pages` side by side: reserves the addresses, then one call per run of consecutive pages.
  // Returns 0 and sets `address`, or -errno with nothing mapped.
  int map_pages(std::span<const uint32_t> pages, int protection, std::byte*& address) {
    const size_t bytes = pages.size() * kPageBytes;
    void* const reserved =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return -errno;
    auto* const start = static_cast<std::byte*>(reserved);
    for (size_t first = 0; first < pages.size();) {
      size_t last = first + 1;
      while (last < pages.size() && pages[last] == pages[last - 1] + 1) last++;
      if (::mmap(start + first * kPageBytes, (last - first) * kPageBytes, protection,
                 MAP_SHARED | MAP_FIXED, memory_.fd(),
                 off_t{pages[first]} * kPageBytes) == MAP_FAILED) {
        const int error = errno;
        ::munmap(reserved, bytes);
        return -error;
      }
      first = last;
    }
    address = start;
    return 0;
  }

  uint32_t mapping_count = 0;

 private:
  GrantEntry& entry(GrantRef gref) { return static_cast<GrantEntry*>(grants_.address())[gref]; }

  MappedFile memory_;
  MappedFile grants_;
};

LoopbackGrantTable::LoopbackGrantTable(std::string machine_dir)
    : machine_dir_(std::move(machine_dir)) {}

LoopbackGrantTable::~LoopbackGrantTable() {
  for (const auto& [handle, mapped] : mappings_) release(mapped);
}

int LoopbackGrantTable::open_guest(Domid domid, Guest*& guest) {
  auto found = guests_.find(domid);
  if (found == guests_.end()) {
    auto opened = std::make_unique<Guest>();
    const int result = opened->open(domain_dir(machine_dir_, domid));
    if (result != 0) return result;
    found = guests_.emplace(domid, std::move(opened)).first;
  }
  guest = found->second.get();
  return 0;
}

void LoopbackGrantTable::close_if_idle(Domid domid) {
  const auto found = guests_.find(domid);
  if (found != guests_.end() && found->second->mapping_count == 0) guests_.erase(found);
}

int LoopbackGrantTable::map(Domid domid, std::span<const GrantRef> grefs, bool writable,
                            GrantMapping& mapping) {
  RD_ASSERT(!grefs.empty());
  Guest* guest = nullptr;
  int result = open_guest(domid, guest);
  if (result != 0) return result;
  std::vector<uint32_t> pages(grefs.size());
  std::byte* address = nullptr;
  result = guest->take_all(grefs, writable, pages);
  if (result == 0) {
    result = guest->map_pages(pages, writable ? PROT_READ | PROT_WRITE : PROT_READ, address);
    if (result != 0) guest->drop_all(grefs);
  }
  if (result != 0) {
    close_if_idle(domid);
    return result;
  }
  mapping = {address, static_cast<uint32_t>(grefs.size()), next_handle_++};
  mappings_.emplace(mapping.handle,
                    Mapped{domid, address, std::vector<GrantRef>(grefs.begin(), grefs.end())});
  guest->mapping_count++;
  return 0;
}

void LoopbackGrantTable::release(const Mapped& mapped) {
  ::munmap(mapped.address, mapped.grefs.size() * kPageBytes);
  Guest& guest = *guests_.at(mapped.domid);
  guest.drop_all(mapped.grefs);
  guest.mapping_count--;
}

void LoopbackGrantTable::unmap(GrantMapping& mapping) {
  const auto found = mappings_.find(mapping.handle);
  RD_ASSERT(found != mappings_.end());
  const Domid domid = found->second.domid;
  release(found->second);
  mappings_.erase(found);
  close_if_idle(domid);
  mapping = {};
}

void LoopbackGrantTable::copy(std::span<GrantCopy> batch) {
  for (GrantCopy& one : batch) {
    one.ok = false;
    Guest* guest = nullptr;
    uint32_t page_index = 0;
    if (uint32_t{one.offset} + one.length > kPageBytes) continue;
    if (open_guest(one.domid, guest) != 0) continue;
    if (guest->take(one.gref, one.to_guest, page_index) != 0) continue;
    std::byte* const remote = guest->page(page_index) + one.offset;
    std::memcpy(one.to_guest ? remote : one.local, one.to_guest ? one.local : remote, one.length);
    guest->drop(one.gref);
    one.ok = true;
  }
  for (const GrantCopy& one : batch) close_if_idle(one.domid);
}

}  // namespace ringdisk
