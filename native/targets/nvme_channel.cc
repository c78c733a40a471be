// SPDX-License-Identifier: Apache-2.0
#include "targets/nvme_channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "base/assert.h"
#include "io/uring.h"
#include "metrics/counters.h"
#include "protocol/limits.h"
#include "targets/part.h"
#include "targets/split_channel.h"

namespace ringdisk {

static_assert(sizeof(NvmeDatasetRange) <= sizeof(Operation::scratch));

namespace {
// Before a command is given again, doubling with each of its tries.
constexpr uint64_t kAgainUs = 1000;
}  // namespace

std::unique_ptr<TargetChannel> open_nvme_channel(int fd, const NvmeGeometry& geometry,
                                                 const Capabilities& capabilities,
                                                 const ChannelContext& context) {
  auto channel = std::make_unique<NvmeChannel>(fd, geometry, capabilities, context);
  const uint64_t bytes_max = geometry.transfer_bytes_max;
  if (bytes_max >= kRequestBytesMax) return channel;
  const uint64_t wanted = (kRequestBytesMax + bytes_max - 1) / bytes_max * context.depth;
  const uint64_t parts = std::min<uint64_t>(wanted, geometry.commands_max);
  return std::make_unique<SplitChannel>(std::move(channel), bytes_max, parts);
}

NvmeChannel::NvmeChannel(int fd, const NvmeGeometry& geometry, const Capabilities& capabilities,
                         const ChannelContext& context)
    : fd_(fd),
      geometry_(geometry),
      read_only_(capabilities.read_only),
      discard_(capabilities.discard),
      uring_(context.uring),
      alarms_(context.alarms),
      counters_(context.counters) {
  RD_ASSERT(uring_.features().big_entries && uring_.features().uring_cmd);
}

bool NvmeChannel::start(Operation& operation) {
  begin_parts(operation);
  switch (operation.kind) {
    case Operation::Kind::read:
      break;
    case Operation::Kind::write:
      // A descriptor opened for reading does not stop root's passthrough commands.
      if (read_only_) return finish(operation, -EROFS);
      break;
    case Operation::Kind::flush:
      return start_flush(operation);
    case Operation::Kind::discard:
      if (!discard_ || operation.secure || operation.zeroes != Zeroes::no)
        return finish(operation, -EOPNOTSUPP);
      break;
    case Operation::Kind::map:
      return map_as_data(operation);
  }
  submit_part(operation);
  return false;
}

bool NvmeChannel::start_flush(Operation& operation) {
  if (!geometry_.volatile_write_cache) return finish(operation, 0);
  if (flush_) {
    later_.push(operation);
    return false;
  }
  flush_ = &operation;
  submit_part(operation);
  return false;
}

bool NvmeChannel::advance(Operation& operation, int32_t part_result) {
  in_flight_--;
  const bool finished = came_back(operation, nvme_result_to_errno(part_result));
  submit_those_that_wait();
  return finished;
}

bool NvmeChannel::came_back(Operation& operation, int32_t result) {
  if (may_retry(operation, result)) {
    try_again(operation);
    return false;
  }
  if (operation.kind == Operation::Kind::flush) flush_done(result);
  if (result < 0) return finish(operation, result);
  // A command succeeds as a whole or not at all.
  operation.done += operation.part;
  if (operation.done == operation.length) return finish(operation, 0);
  if (operation.cancelled) return finish(operation, -ECANCELED);
  submit_part(operation);
  return false;
}

// Later: the controller is busy, and asking at once keeps it so.
void NvmeChannel::try_again(Operation& operation) {
  counters_.retries.add();
  again_.push(operation);
  if (!is_set()) alarms_.set(*this, clock_us() + (kAgainUs << (operation.retries - 1)));
}

void NvmeChannel::on_alarm(uint64_t) {
  Fifo<Operation> due = again_.take();
  while (Operation* operation = due.pop()) submit_part(*operation);
}

void NvmeChannel::flush_done(int32_t result) {
  while (Operation* one = together_.pop()) {
    one->result = result;
    one->sink->finished(*one);
  }
  flush_ = later_.pop();
  if (!flush_) return;
  while (Operation* one = later_.pop()) together_.push(*one);
  submit_part(*flush_);
}

// More would have to wait for the controller in the kernel.
void NvmeChannel::submit_part(Operation& operation) {
  if (in_flight_ >= geometry_.commands_max) return waiting_.push(operation);
  submit_now(operation);
}

void NvmeChannel::submit_those_that_wait() {
  while (in_flight_ < geometry_.commands_max) {
    Operation* operation = waiting_.pop();
    if (!operation) return;
    if (!operation->cancelled) {
      submit_now(*operation);
      continue;
    }
    operation->result = -ECANCELED;
    operation->sink->finished(*operation);
  }
}

void NvmeChannel::submit_now(Operation& operation) {
  in_flight_++;
  switch (operation.kind) {
    case Operation::Kind::read:
    case Operation::Kind::write:
      return submit_transfer(operation);
    case Operation::Kind::flush:
      submit_command(operation, encode_nvme_flush(geometry_));
      return;
    case Operation::Kind::discard:
      return submit_discard(operation);
    case Operation::Kind::map:
      return;  // start() has answered it
  }
}

void NvmeChannel::submit_transfer(Operation& operation) {
  operation.part = std::min(operation.length - operation.done, geometry_.transfer_bytes_max);
  const bool write = operation.kind == Operation::Kind::write;
  io_uring_sqe* sqe = submit_command(
      operation, encode_nvme_transfer(geometry_, write, operation.offset + operation.done,
                                      {operation.memory + operation.done, operation.part}));
  if (operation.registered) sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;  // of buffer 0
}

void NvmeChannel::submit_discard(Operation& operation) {
  operation.part = discard_part_bytes(operation);
  const auto* range = new (operation.scratch) NvmeDatasetRange(
      encode_nvme_range(geometry_, operation.offset + operation.done, operation.part));
  submit_command(operation, encode_nvme_deallocate(geometry_, *range));
}

io_uring_sqe* NvmeChannel::submit_command(Operation& operation, const nvme_uring_cmd& command) {
  io_uring_sqe* sqe = uring_.reserve_for(operation);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd_;
  sqe->cmd_op = NVME_URING_CMD_IO;
  // The command fills all but the last bytes of a big entry's second half and the end of its first.
  auto* entry = reinterpret_cast<std::byte*>(sqe);
  constexpr size_t kBegin = offsetof(io_uring_sqe, cmd);
  constexpr size_t kEnd = kBegin + sizeof(command);
  std::memcpy(entry + kBegin, &command, sizeof(command));
  std::memset(entry + kEnd, 0, 2 * sizeof(*sqe) - kEnd);
  return sqe;
}

}  // namespace ringdisk
