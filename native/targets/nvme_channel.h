// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "medium/nvme_command.h"
#include "targets/target.h"

struct io_uring_sqe;

namespace ringdisk {

// NVMe commands handed to the kernel's driver through io_uring, past the block layer: this side
// splits what one command cannot carry. The owner of the descriptor outlives the channel.
class NvmeChannel final : public TargetChannel {
 public:
  // `uring` must have big entries.
  NvmeChannel(int fd, const NvmeGeometry& geometry, const Capabilities& capabilities, Uring& uring);

  bool start(Operation& operation) override;
  bool advance(Operation& operation, int32_t part_result) override;

 private:
  // First in, first out, linked by Operation::next.
  struct List {
    Operation* head = nullptr;
    Operation** tail = &head;
    void push(Operation& operation);
    Operation* pop();
  };

  void submit_part(Operation& operation);
  void submit_now(Operation& operation);
  void submit_those_that_wait();
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
  uint32_t in_flight_ = 0;
  List waiting_;  // until fewer commands are in flight
  // One flush at a time serves all that were asked for before it began.
  Operation* flush_ = nullptr;  // under way
  List together_;               // with it
  List later_;                  // with the next
};

}  // namespace ringdisk
