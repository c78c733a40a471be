// SPDX-License-Identifier: Apache-2.0
#include "medium/medium.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "base/units.h"
#include "medium/block_map.h"
#include "medium/block_medium.h"
#include "medium/file_medium.h"
#include "medium/nbd_medium.h"
#include "medium/nvme_medium.h"
#include "medium/open_path.h"

namespace ringdisk {
namespace {

int32_t result_of(ssize_t done) { return done < 0 ? -errno : static_cast<int32_t>(done); }

int32_t discard(int fd, const LaneSubmission& call) {
  uint64_t range[2] = {call.offset, call.length};
  const unsigned long request = call.call == LaneCall::secure_discard ? BLKSECDISCARD : BLKDISCARD;
  return result_of(::ioctl(fd, request, range));
}

// Of a file or a device. A hole reads as zeroes; where none can be made the kernel writes them.
int32_t zero(int fd, const LaneSubmission& call) {
  const auto offset = static_cast<off_t>(call.offset);
  const auto length = static_cast<off_t>(call.length);
  const auto change = [&](int how) {
    return result_of(::fallocate(fd, how | FALLOC_FL_KEEP_SIZE, offset, length));
  };
  if (call.call == LaneCall::zero_keep) return change(FALLOC_FL_ZERO_RANGE);
  const int32_t punched = change(FALLOC_FL_PUNCH_HOLE);
  if (punched != -EOPNOTSUPP || call.call == LaneCall::zero_fast) return punched;
  return change(FALLOC_FL_ZERO_RANGE);
}

std::string kind_of_path(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot open the target " + path);
  }
  if (S_ISREG(status.st_mode)) return "file";
  if (S_ISBLK(status.st_mode)) return "block";
  throw std::invalid_argument("cannot open the target " + path + ": it is " +
                              kind_of(status.st_mode));
}

}  // namespace

int32_t Medium::carry_out(const LaneSubmission& call, std::byte* memory) const {
  const auto offset = static_cast<off_t>(call.offset);
  const auto length = static_cast<off_t>(call.length);
  switch (call.call) {
    case LaneCall::read:
      return result_of(::pread(fd(), memory, call.length, offset));
    case LaneCall::write:
      return result_of(::pwrite(fd(), memory, call.length, offset));
    case LaneCall::flush:
      return result_of(::fdatasync(fd()));
    case LaneCall::punch_hole:
      return result_of(
          ::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
    case LaneCall::discard:
    case LaneCall::secure_discard:
      return discard(fd(), call);
    case LaneCall::zero:
    case LaneCall::zero_keep:
    case LaneCall::zero_fast:
      return zero(fd(), call);
    case LaneCall::map:
      return map_holes(fd(), call.offset, call.length, memory);
    case LaneCall::map_zeroes:
      return map_zeroes(fd(), call.offset, call.length, memory);
  }
  return -EINVAL;
}

void Medium::warn(const std::string& sentence) {
  std::string all = facts_.warnings.data();
  if (!all.empty()) all += '\n';
  all += sentence;
  all.resize(std::min(all.size(), facts_.warnings.size() - 1));
  facts_.warnings.fill('\0');
  std::ranges::copy(all, facts_.warnings.begin());
}

void Medium::set_identity(const std::string& text) {
  facts_.identity.fill('\0');
  text.copy(facts_.identity.data(), facts_.identity.size() - 1);
}

std::unique_ptr<Medium> open_medium(const MediumSpec& given) {
  MediumSpec spec = given;
  if (spec.kind == "auto") spec.kind = kind_of_path(spec.path);
  if (spec.kind == "file") return std::make_unique<FileMedium>(spec);
  if (spec.kind == "block") return std::make_unique<BlockMedium>(spec);
  if (spec.kind == "nvme") return std::make_unique<NvmeMedium>(spec);
  if (spec.kind == "nbd") return std::make_unique<NbdMedium>(spec);
  throw std::invalid_argument("there is no target kind \"" + spec.kind +
                              "\": file, block, nvme, nbd and null are known");
}

std::unique_ptr<Medium> adopt_medium(const MediumSpec& spec, const MediumFacts& facts, Fd fd) {
  switch (facts.kind) {
    case MediumKind::file:
      return std::make_unique<FileMedium>(spec, facts, std::move(fd));
    case MediumKind::block:
      return std::make_unique<BlockMedium>(spec, facts, std::move(fd));
    case MediumKind::nvme:
      return std::make_unique<NvmeMedium>(spec, facts, std::move(fd));
    case MediumKind::nbd:
      return std::make_unique<NbdMedium>(spec, facts);
    case MediumKind::null:
    case MediumKind::fill:
      break;
  }
  throw std::invalid_argument("nothing to adopt");
}

bool reads_without_waiting(int fd) {
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(kPageBytes, kPageBytes),
                                                      std::free);
  if (!memory) return false;
  const iovec part{memory.get(), kPageBytes};
  return ::preadv2(fd, &part, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

}  // namespace ringdisk
