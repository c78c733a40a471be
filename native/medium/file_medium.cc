// SPDX-License-Identifier: Apache-2.0
#include "medium/file_medium.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/units.h"
#include "medium/make_file.h"
#include "medium/open_path.h"
#include "medium/probe.h"

namespace ringdisk {
namespace {

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

uint64_t size_of(int fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot read the size of " + path);
  }
  return static_cast<uint64_t>(status.st_size);
}

}  // namespace

FileMedium::FileMedium(const MediumSpec& spec) : path_(spec.path) {
  if (spec.create_bytes > 0) facts_.head = make_file(spec);
  const struct stat status = stat_target(spec, S_IFREG);
  fd_ = open_path(spec, 0);
  open_direct(spec);
  claim_ = std::make_unique<Claim>(fd(), path_, spec.read_only, "");
  facts_.kind = MediumKind::file;
  Capabilities& capabilities = facts_.capabilities;
  capabilities.capacity = measure().capacity;
  if (capabilities.capacity == 0)
    throw std::invalid_argument("cannot serve " + path_ + ": it is empty");
  capabilities.read_only = spec.read_only;
  capabilities.physical_block = kPageBytes;
  capabilities.discard = !spec.read_only && takes_punch_hole(fd());
  probe_queue(status.st_dev, capabilities);
  // Not the disk's granularity but the file system's: it frees whole blocks.
  if (capabilities.discard) {
    const auto block = static_cast<uint32_t>(status.st_blksize);
    capabilities.discard_granularity = std::max(block, capabilities.io_alignment);
    capabilities.discard_alignment = 0;
  }
  set_identity(identity_of_file(fd()));
  open_tail(spec);
}

FileMedium::FileMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd) : path_(spec.path) {
  facts_ = facts;
  fd_ = std::move(fd);
  claim_ = std::make_unique<Claim>(this->fd(), path_, spec.read_only, "");
  open_tail(spec);
}

void FileMedium::open_direct(const MediumSpec& spec) {
  const int mode = spec.read_only ? O_RDONLY : O_RDWR;
  Fd direct = open_noatime(path_, mode | O_DIRECT);
  if (!direct.valid()) return;
  const std::optional<uint32_t> alignment = probe_direct_io(direct.get());
  if (!alignment) return;
  facts_.capabilities.direct = true;
  facts_.capabilities.io_alignment = *alignment;
  fd_ = std::move(direct);
}

// By what is open: the path may be another file by now.
void FileMedium::open_tail(const MediumSpec& spec) {
  if (!facts_.capabilities.direct) return;
  const int mode = spec.read_only ? O_RDONLY : O_RDWR;
  tail_ = Fd(::open(("/proc/self/fd/" + std::to_string(fd())).c_str(), mode | O_CLOEXEC));
}

Medium::Size FileMedium::measure() const {
  const uint64_t bytes = size_of(fd(), path_);
  const uint64_t direct_end =
      bytes / facts_.capabilities.io_alignment * facts_.capabilities.io_alignment;
  return {round_up(bytes, kSectorBytes), direct_end};
}

// Behind the last whole block the page cache is used, since direct I/O would make the file longer.
int32_t FileMedium::carry_out(const LaneSubmission& call, std::byte* memory) const {
  const bool transfer = call.call == LaneCall::read || call.call == LaneCall::write;
  if (!transfer) return Medium::carry_out(call, memory);
  const uint64_t bytes = size_of(fd(), path_);
  const uint64_t direct_end =
      bytes / facts_.capabilities.io_alignment * facts_.capabilities.io_alignment;
  const bool is_tail = call.offset >= direct_end && call.offset < bytes;
  if (!is_tail) return Medium::carry_out(call, memory);
  if (call.call == LaneCall::read) return read_tail(call, memory, bytes);
  return write_tail(call, memory, bytes);
}

int32_t FileMedium::read_tail(const LaneSubmission& call, std::byte* memory, uint64_t bytes) const {
  const int fd = tail_.valid() ? tail_.get() : this->fd();
  const uint64_t there = std::min(call.length, bytes - call.offset);
  const ssize_t done = ::pread(fd, memory, there, static_cast<off_t>(call.offset));
  if (done < 0) return -errno;
  // What the block has beyond the file's end is nothing.
  std::memset(memory + done, 0, call.length - static_cast<size_t>(done));
  return static_cast<int32_t>(call.length);
}

int32_t FileMedium::write_tail(const LaneSubmission& call, const std::byte* memory,
                               uint64_t bytes) const {
  const int fd = tail_.valid() ? tail_.get() : this->fd();
  const uint64_t wanted = std::min(call.length, round_up(bytes, kSectorBytes) - call.offset);
  uint64_t written = 0;
  while (written < wanted) {
    const ssize_t done =
        ::pwrite(fd, memory + written, wanted - written, static_cast<off_t>(call.offset + written));
    if (done < 0) return -errno;
    written += static_cast<uint64_t>(done);
  }
  return static_cast<int32_t>(call.length);
}

}  // namespace ringdisk
