// SPDX-License-Identifier: Apache-2.0
#include "targets/remote_target.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "io/uring.h"
#include "targets/fd_channel.h"
#include "targets/nbd_channel.h"
#include "targets/nvme_channel.h"
#include "targets/workers.h"

namespace ringdisk {

RemoteTarget::RemoteTarget(Workers& workers, std::shared_ptr<WorkerLink> link,
                           const TargetSpec& spec, const MediumFacts& facts)
    : workers_(workers), link_(std::move(link)), path_(spec.path) {
  facts_ = facts;
  if (facts_.kind == MediumKind::nbd)
    nbd_ = std::make_shared<NbdServer>(workers_, link_, spec, facts_);
}

RemoteTarget::~RemoteTarget() {
  if (!closed_) workers_.close(link_, [](const TargetAnswer&) {});
}

void RemoteTarget::measure(Answer answer) { workers_.measure(link_, std::move(answer)); }

void RemoteTarget::claim(const TargetClaim& claim, Answer answer, Lifted lifted) {
  workers_.claim(link_, claim, fenced_, std::move(answer), std::move(lifted));
}

void RemoteTarget::close(Answer answer) {
  closed_ = true;
  workers_.close(link_, std::move(answer));
}

std::unique_ptr<TargetChannel> RemoteTarget::open_channel(const ChannelContext& context) {
  if (nbd_) return open_nbd_channel(nbd_, context);
  if (facts_.kind != MediumKind::nvme) return std::make_unique<FdChannel>(*this, link_, context);
  const UringFeatures& features = context.uring.features();
  if (!features.big_entries || !features.uring_cmd)
    throw std::system_error(EOPNOTSUPP, std::generic_category(),
                            "cannot serve " + path_ +
                                " by NVMe passthrough: this kernel's io_uring has no commands with "
                                "big entries (Linux 5.19 has); use its block device");
  return open_nvme_channel(link_->io(), facts_.nvme, facts_.capabilities, context);
}

void RemoteTarget::on_warning(Warn tell) {
  if (nbd_) nbd_->on_warning(std::move(tell));
}

std::vector<TargetWait> RemoteTarget::waits(uint64_t before_us) const {
  return nbd_ ? nbd_->waits(before_us) : link_->waits(before_us);
}

}  // namespace ringdisk
