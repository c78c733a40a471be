// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/fifo.h"
#include "io/alarms.h"
#include "medium/nvme_command.h"
#include "targets/target.h"

struct io_uring_sqe;

namespace ringdisk {

// The channel of a namespace whose descriptor this is; its owner outlives the channel. The
// context's uring must have big entries.
std::unique_ptr<TargetChannel> open_nvme_channel(int fd, const NvmeGeometry& geometry,
                                                 const Capabilities& capabilities,
                                                 const ChannelContext& context);

// NVMe commands handed to the kernel's driver through io_uring, past the block layer. What one
// command cannot carry takes several, one after the other; in front of it is therefore a
// SplitChannel where the device takes less than a large request.
class NvmeChannel final : public TargetChannel, private Alarm {
 public:
  NvmeChannel(int fd, const NvmeGeometry& geometry, const Capabilities& capabilities,
              const ChannelContext& context);

  bool start(Operation& operation) override;
  bool advance(Operation& operation, int32_t part_result) override;

 private:
  // First in, first out, linked by Operation::next.
  void submit_part(Operation& operation);
  void submit_now(Operation& operation);
  void submit_those_that_wait();
  void try_again(Operation& operation);
  void on_alarm(uint64_t now_us) override;
  bool came_back(Operation& operation, int32_t result);
  bool start_flush(Operation& operation);
  void flush_done(int32_t result);
  void submit_transfer(Operation& operation);
  void submit_discard(Operation& operation);
  io_uring_sqe* submit_command(Operation& operation, const nvme_uring_cmd& command);

  const int fd_;
  const NvmeGeometry geometry_;
  const bool read_only_;
  const bool discard_;
  Uring& uring_;
  Alarms& alarms_;
  QueueCounters& counters_;
  uint32_t in_flight_ = 0;
  Fifo<Operation> waiting_;  // until fewer commands are in flight
  Fifo<Operation> again_;    // the controller said "not now": until the alarm
  // One flush at a time serves all that were asked for before it began.
  Operation* flush_ = nullptr;  // under way
  Fifo<Operation> together_;    // with it
  Fifo<Operation> later_;       // with the next
};

}  // namespace ringdisk
