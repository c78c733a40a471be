// SPDX-License-Identifier: Apache-2.0
#include "platform/xen/grant_table.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.h"

namespace ringdisk {
namespace {

// Pages of one mapping: a request's segments at most.
constexpr size_t kMapMax = kIndirectSegmentsMax;

// ioctl_gntdev_map_grant_ref ends in a one-element array; this is the same with room for more.
struct MapGrantRefs {
  ioctl_gntdev_map_grant_ref head;
  std::array<ioctl_gntdev_grant_ref, kMapMax> more;
};

}  // namespace

XenGrantTable::XenGrantTable()
    : gntdev_(Fd::checked(::open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC),
                          "cannot open /dev/xen/gntdev")) {}

int XenGrantTable::map_reference(Domid domid, std::span<const GrantRef> grefs, uint64_t& index) {
  MapGrantRefs request{};
  request.head.count = static_cast<uint32_t>(grefs.size());
  auto* refs = reinterpret_cast<ioctl_gntdev_grant_ref*>(&request.head.refs);
  for (size_t i = 0; i < grefs.size(); i++) refs[i] = {domid, grefs[i]};
  if (::ioctl(gntdev_.get(), IOCTL_GNTDEV_MAP_GRANT_REF, &request) != 0) return -errno;
  index = request.head.index;
  return 0;
}

void XenGrantTable::release_reference(uint64_t index, uint32_t count) {
  ioctl_gntdev_unmap_grant_ref request{};
  request.index = index;
  request.count = count;
  // Can only fail for an index we made up.
  RD_ASSERT(::ioctl(gntdev_.get(), IOCTL_GNTDEV_UNMAP_GRANT_REF, &request) == 0);
}

int XenGrantTable::map(Domid domid, std::span<const GrantRef> grefs, bool writable,
                       GrantMapping& mapping) {
  RD_ASSERT(!grefs.empty() && grefs.size() <= kMapMax);
  const auto count = static_cast<uint32_t>(grefs.size());
  uint64_t index = 0;
  if (const int error = map_reference(domid, grefs, index); error != 0) return error;
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  // The hypercall happens here: a gref the guest did not grant makes mmap fail.
  void* address = ::mmap(nullptr, size_t{count} * kPageBytes, protection, MAP_SHARED, gntdev_.get(),
                         static_cast<off_t>(index));
  if (address == MAP_FAILED) {
    const int error = -errno;
    release_reference(index, count);
    return error;
  }
  mapping = {static_cast<std::byte*>(address), count, index};
  return 0;
}

void XenGrantTable::unmap(GrantMapping& mapping) {
  RD_ASSERT(::munmap(mapping.address, size_t{mapping.page_count} * kPageBytes) == 0);
  release_reference(mapping.handle, mapping.page_count);
  mapping = {};
}

void XenGrantTable::copy(std::span<GrantCopy> batch) {
  RD_ASSERT(batch.size() <= segments_.size());
  for (size_t i = 0; i < batch.size(); i++) {
    const GrantCopy& copy = batch[i];
    gntdev_grant_copy_segment& segment = segments_[i];
    segment = {};
    auto& guest = copy.to_guest ? segment.dest : segment.source;
    auto& local = copy.to_guest ? segment.source : segment.dest;
    guest.foreign.ref = copy.gref;
    guest.foreign.offset = copy.offset;
    guest.foreign.domid = copy.domid;
    local.virt = copy.local;
    segment.len = copy.length;
    segment.flags = copy.to_guest ? xen::kCopyDestIsGrant : xen::kCopySourceIsGrant;
  }
  ioctl_gntdev_grant_copy request{};
  request.count = static_cast<uint32_t>(batch.size());
  request.segments = segments_.data();
  const bool done = ::ioctl(gntdev_.get(), IOCTL_GNTDEV_GRANT_COPY, &request) == 0;
  for (size_t i = 0; i < batch.size(); i++)
    batch[i].ok = done && segments_[i].status == xen::kGrantStatusOkay;
}

}  // namespace ringdisk
