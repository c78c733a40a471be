// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "targets/target.h"
#include "targets/worker_link.h"

namespace ringdisk {

class NbdServer;

// A file, block device, NVMe namespace or NBD export, opened by its worker. What never waits is
// done here, by the descriptor that came with it or by connections that the worker makes;
// everything else is asked of the worker.
class RemoteTarget final : public Target {
 public:
  RemoteTarget(Workers& workers, std::shared_ptr<WorkerLink> link, const TargetSpec& spec,
               const MediumFacts& facts);
  ~RemoteTarget() override;

  void measure(Answer answer) override;
  void claim(const TargetClaim& claim, Answer answer, Lifted lifted) override;
  void close(Answer answer) override;
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override;
  std::vector<TargetWait> waits(uint64_t before_us) const override;
  void on_warning(Warn tell) override;
  int worker() const override { return link_->process(); }
  // How often the medium itself was flushed.
  uint64_t device_flushes() const { return link_->device_flushes(); }

 private:
  Workers& workers_;
  const std::shared_ptr<WorkerLink> link_;
  const std::string path_;
  std::shared_ptr<NbdServer> nbd_;  // kind nbd only
  bool closed_ = false;
};

}  // namespace ringdisk
