// SPDX-License-Identifier: Apache-2.0
#include "target/nvme_channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "io/uring.h"
#include "target/part.h"

namespace ringdisk {

static_assert(sizeof(NvmeDatasetRange) <= sizeof(Operation::scratch));

NvmeChannel::NvmeChannel(int fd, const NvmeGeometry& geometry, const Capabilities& capabilities,
                         Uring& uring)
    : fd_(fd),
      geometry_(geometry),
      read_only_(capabilities.read_only),
      discard_(capabilities.discard),
      uring_(uring) {
  RD_ASSERT(uring.features().big_entries && uring.features().uring_cmd);
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
      if (!geometry_.volatile_write_cache) return finish(operation, 0);
      break;
    case Operation::Kind::discard:
      if (!discard_ || operation.secure) return finish(operation, -EOPNOTSUPP);
      break;
  }
  submit_part(operation);
  return false;
}

bool NvmeChannel::advance(Operation& operation, int32_t part_result) {
  const int32_t result = nvme_result_to_errno(part_result);
  if (may_retry(operation, result)) {
    submit_part(operation);
    return false;
  }
  if (result < 0) return finish(operation, result);
  // A command succeeds as a whole or not at all.
  operation.done += operation.part;
  if (operation.done == operation.length) return finish(operation, 0);
  submit_part(operation);
  return false;
}

void NvmeChannel::submit_part(Operation& operation) {
  switch (operation.kind) {
    case Operation::Kind::read:
    case Operation::Kind::write:
      return submit_transfer(operation);
    case Operation::Kind::flush:
      submit_command(operation, encode_nvme_flush(geometry_));
      return;
    case Operation::Kind::discard:
      return submit_discard(operation);
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
