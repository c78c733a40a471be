// SPDX-License-Identifier: Apache-2.0
// What this kernel's io_uring can do, found out by asking it: versions lie, because distributions
// backport and administrators switch things off.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>

#include "base/fd.h"
#include "io/uring.h"
#include "io/uring_uapi.h"

namespace ringdisk {
namespace {

constexpr unsigned kBaseFlags = IORING_SETUP_CQSIZE;
constexpr unsigned kSubmitAll = kBaseFlags | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned kBigCooperative = kSubmitAll | IORING_SETUP_COOP_TASKRUN |
                                     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SQE128 |
                                     IORING_SETUP_CQE32;
constexpr unsigned kSingleIssuer = kBigCooperative | IORING_SETUP_SINGLE_ISSUER;
// From best to least, in the order the kernel learnt them.
constexpr std::array kAttempts = {kSingleIssuer | IORING_SETUP_DEFER_TASKRUN, kSingleIssuer,
                                  kBigCooperative, kSubmitAll, kBaseFlags};

// Sleeping with a time-out, and no lost completions.
constexpr unsigned kRequiredFeatures = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;

// A throw-away ring of a few entries.
class ProbeRing {
 public:
  explicit ProbeRing(unsigned flags) {
    params_.flags = flags;
    params_.cq_entries = 8;
    error_ = -io_uring_queue_init_params(4, &ring_, &params_);
  }
  ~ProbeRing() {
    if (error_ == 0) io_uring_queue_exit(&ring_);
  }
  ProbeRing(const ProbeRing&) = delete;
  ProbeRing& operator=(const ProbeRing&) = delete;

  int error() const { return error_; }
  unsigned features() const { return params_.features; }
  io_uring* get() { return &ring_; }
  bool has(int opcode) {
    const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(
        io_uring_get_probe_ring(&ring_), io_uring_free_probe);
    return probe != nullptr && io_uring_opcode_supported(probe.get(), opcode) != 0;
  }

 private:
  io_uring ring_{};
  io_uring_params params_{};
  int error_ = 0;
};

void describe(UringFeatures& features, unsigned flags) {
  features.available = true;
  features.error = 0;
  features.setup_flags = flags;
  features.single_issuer = (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
  features.defer_taskrun = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
  features.coop_taskrun = (flags & IORING_SETUP_COOP_TASKRUN) != 0;
  features.big_entries = (flags & IORING_SETUP_SQE128) != 0;
}

bool is_removable(const std::string& name) {
  std::ifstream file("/sys/block/" + name + "/removable");
  int removable = 1;
  file >> removable;
  return removable != 0;
}

// Any block device of this host, opened for reading only. Not a removable one: opening those may
// spin up a drive or close a tray.
Fd open_some_block_device() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    std::string name = entry.path().filename();
    if (is_removable(name)) continue;
    std::replace(name.begin(), name.end(), '!', '/');
    Fd fd(open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.valid()) return fd;
  }
  return Fd();
}

}  // namespace

UringFeatures probe_uring() {
  UringFeatures features;
  for (const unsigned flags : kAttempts) {
    ProbeRing ring(flags);
    if (ring.error() != 0) {
      if (features.error == 0) features.error = ring.error();
      continue;
    }
    if ((ring.features() & kRequiredFeatures) != kRequiredFeatures) {
      features.error = ENOSYS;
      return features;
    }
    describe(features, flags);
    features.uring_cmd = ring.has(IORING_OP_URING_CMD);
    break;
  }
  if (!features.uring_cmd) return features;
  const Fd device = open_some_block_device();
  features.block_discard = device.valid() && takes_discard_command(device.get());
  return features;
}

bool takes_discard_command(int fd) {
  ProbeRing ring(kBaseFlags);
  if (ring.error() != 0 || !ring.has(IORING_OP_URING_CMD)) return false;
  io_uring_sqe* sqe = io_uring_get_sqe(ring.get());
  io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, 0);
  sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
  // Wrong three times over: a length where none belongs, an odd offset, nothing to discard. A
  // kernel that knows the command answers EINVAL, one that does not EOPNOTSUPP.
  sqe->len = 1;
  sqe->addr = 1;
  sqe->addr3 = 0;
  io_uring_cqe* completion = nullptr;
  if (io_uring_submit_and_wait(ring.get(), 1) < 0) return false;
  if (io_uring_peek_cqe(ring.get(), &completion) != 0) return false;
  return completion->res == -EINVAL;
}

}  // namespace ringdisk
