// SPDX-License-Identifier: Apache-2.0
#include "target/fd_channel.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>

#include "base/assert.h"
#include "io/offload.h"
#include "io/uring.h"
#include "io/uring_uapi.h"
#include "target/part.h"

namespace ringdisk {
namespace {

// The whole of what remains in one submission.
void prepare_transfer(io_uring_sqe* sqe, int fd, const Operation& operation) {
  const bool write = operation.kind == Operation::Kind::write;
  int opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
  if (operation.registered) opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
  io_uring_prep_rw(opcode, sqe, fd, operation.memory + operation.done,
                   static_cast<uint32_t>(operation.part), operation.offset + operation.done);
  sqe->buf_index = 0;
}

int32_t discard_by_ioctl(const Operation& operation, int fd) {
  uint64_t range[2] = {operation.offset + operation.done, operation.part};
  const unsigned long request = operation.secure ? BLKSECDISCARD : BLKDISCARD;
  return ioctl(fd, request, range) == 0 ? 0 : -errno;
}

void prepare_discard_command(io_uring_sqe* sqe, int fd, const Operation& operation) {
  io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, 0);
  sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
  sqe->addr = operation.offset + operation.done;
  sqe->addr3 = operation.part;
}

}  // namespace

FdChannel::FdChannel(int fd, DiscardMethod discard, bool secure_discard, Uring& uring,
                     Offload& offload)
    : fd_(fd),
      discard_(discard),
      secure_discard_(secure_discard),
      uring_(uring),
      offload_(offload) {}

bool FdChannel::start(Operation& operation) {
  begin_parts(operation);
  if (operation.kind == Operation::Kind::discard && method_for(operation) == DiscardMethod::none) {
    return finish(operation, -EOPNOTSUPP);
  }
  submit_part(operation);
  return false;
}

bool FdChannel::advance(Operation& operation, int32_t part_result) {
  if (may_retry(operation, part_result)) {
    submit_part(operation);
    return false;
  }
  if (part_result < 0) return finish(operation, part_result);
  switch (operation.kind) {
    case Operation::Kind::flush:
      return finish(operation, 0);
    case Operation::Kind::discard:
      operation.done += operation.part;
      break;
    case Operation::Kind::read:
    case Operation::Kind::write:
      // Nothing moved and no error: the medium ends before the capacity we were told.
      if (part_result == 0) return finish(operation, -EIO);
      operation.done += static_cast<uint64_t>(part_result);
      break;
  }
  RD_ASSERT(operation.done <= operation.length);
  if (operation.done == operation.length) return finish(operation, 0);
  if (operation.cancelled) return finish(operation, -ECANCELED);
  submit_part(operation);
  return false;
}

void FdChannel::submit_part(Operation& operation) {
  switch (operation.kind) {
    case Operation::Kind::read:
    case Operation::Kind::write:
      return submit_transfer(operation);
    case Operation::Kind::flush:
      return submit_flush(operation);
    case Operation::Kind::discard:
      return submit_discard(operation);
  }
}

void FdChannel::submit_transfer(Operation& operation) {
  operation.part = operation.length - operation.done;
  prepare_transfer(uring_.reserve_for(operation), fd_, operation);
}

void FdChannel::submit_flush(Operation& operation) {
  io_uring_sqe* sqe = uring_.reserve_for(operation);
  sqe->opcode = IORING_OP_FSYNC;
  sqe->fd = fd_;
  sqe->fsync_flags = IORING_FSYNC_DATASYNC;
}

void FdChannel::submit_discard(Operation& operation) {
  operation.part = discard_part_bytes(operation);
  const DiscardMethod method = method_for(operation);
  if (method == DiscardMethod::offload) return offload_.submit(operation, discard_by_ioctl, fd_);
  io_uring_sqe* sqe = uring_.reserve_for(operation);
  if (method == DiscardMethod::command) {
    prepare_discard_command(sqe, fd_, operation);
  } else {
    io_uring_prep_fallocate(sqe, fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(operation.offset + operation.done),
                            static_cast<off_t>(operation.part));
  }
}

DiscardMethod FdChannel::method_for(const Operation& operation) const {
  if (!operation.secure) return discard_;
  return secure_discard_ ? DiscardMethod::offload : DiscardMethod::none;
}

}  // namespace ringdisk
