// SPDX-License-Identifier: Apache-2.0
// The channel of everything that is one file descriptor to the kernel: regular files and block
// devices. Reads and writes go by the reactor's io_uring, which is told never to wait. What would
// have to, and everything else, goes to the worker.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "targets/lanes.h"
#include "targets/target.h"

namespace ringdisk {

class FdChannel final : public TargetChannel {
 public:
  // `target` outlives it.
  FdChannel(const Target& target, std::shared_ptr<WorkerLink> worker,
            const ChannelContext& context);

  bool start(Operation& operation) override;
  bool advance(Operation& operation, int32_t part_result) override;
  void cancel_discards() override { lane_.cancel_discards(); }
  bool give_memory_back() override { return lane_.give_memory_back(); }
  bool holds_memory() const override { return lane_.holds_memory(); }

 private:
  void submit_part(Operation& operation);
  void submit_transfer(Operation& operation);
  void send(Operation& operation, LaneCall call);
  LaneCall discard_call(const Operation& operation) const;
  std::optional<LaneCall> map_call(const Operation& operation) const;
  bool takes_discard(const Operation& operation) const;

  const Target& target_;
  const int fd_;
  const bool reads_here_;
  const bool writes_here_;
  Uring& uring_;
  Lane lane_;
};

}  // namespace ringdisk
