// SPDX-License-Identifier: Apache-2.0
// What this kernel's io_uring can do, found out by asking it: versions lie, because distributions
// backport and administrators switch things off.
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include "io/uring.h"

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
  return features;
}

}  // namespace ringdisk
