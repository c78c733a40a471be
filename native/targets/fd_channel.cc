// SPDX-License-Identifier: Apache-2.0
#include "targets/fd_channel.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "io/uring.h"
#include "targets/part.h"
#include "targets/worker_link.h"

namespace ringdisk {
namespace {

using Kind = Operation::Kind;

// Where the part under way is: here or with the worker. In the operation's scratch space, before
// what the lane keeps there.
bool& with_worker(Operation& operation) { return *reinterpret_cast<bool*>(operation.scratch); }

// The whole of what remains in one submission, that is refused rather than wait.
void prepare_transfer(io_uring_sqe* sqe, int fd, const Operation& operation) {
  const bool write = operation.kind == Kind::write;
  int opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
  if (operation.registered) opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
  io_uring_prep_rw(opcode, sqe, fd, operation.memory + operation.done,
                   static_cast<uint32_t>(operation.part), operation.offset + operation.done);
  sqe->rw_flags = RWF_NOWAIT;
  sqe->buf_index = 0;
}

bool would_wait(int32_t result) { return result == -EAGAIN || result == -EOPNOTSUPP; }

}  // namespace

FdChannel::FdChannel(const Target& target, std::shared_ptr<WorkerLink> worker,
                     const ChannelContext& context)
    : target_(target),
      fd_(worker->io()),
      reads_here_(fd_ >= 0 && target.facts().reads_without_waiting),
      writes_here_(fd_ >= 0 && target.facts().writes_without_waiting),
      uring_(context.uring),
      lane_(context.lanes, std::move(worker)) {}

bool FdChannel::start(Operation& operation) {
  begin_parts(operation);
  if (operation.kind == Kind::discard && !takes_discard(operation))
    return finish(operation, -EOPNOTSUPP);
  if (operation.kind == Kind::map && !map_call(operation)) return map_as_data(operation);
  submit_part(operation);
  return false;
}

bool FdChannel::advance(Operation& operation, int32_t part_result) {
  if (!with_worker(operation) && would_wait(part_result)) {
    send(operation, operation.kind == Kind::write ? LaneCall::write : LaneCall::read);
    return false;
  }
  if (may_retry(operation, part_result)) {
    submit_part(operation);
    return false;
  }
  if (part_result < 0) return finish(operation, part_result);
  switch (operation.kind) {
    case Kind::flush:
      return finish(operation, 0);
    case Kind::map:
      return finish(operation, 0);
    case Kind::discard:
      operation.done += operation.part;
      break;
    case Kind::read:
    case Kind::write:
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
    case Kind::read:
    case Kind::write:
      return submit_transfer(operation);
    case Kind::flush:
      operation.part = 0;
      return send(operation, LaneCall::flush);
    case Kind::map:
      operation.part = operation.length;
      return send(operation, *map_call(operation));
    case Kind::discard:
      operation.part = discard_part_bytes(operation);
      return send(operation, discard_call(operation));
  }
}

// What lies behind the last whole block of a file is a part of its own.
void FdChannel::submit_transfer(Operation& operation) {
  const bool write = operation.kind == Kind::write;
  const uint64_t at = operation.offset + operation.done;
  const uint64_t direct_end = target_.direct_end();
  operation.part = operation.length - operation.done;
  if (at < direct_end) operation.part = std::min(operation.part, direct_end - at);
  if (at < direct_end && (write ? writes_here_ : reads_here_)) {
    with_worker(operation) = false;
    return prepare_transfer(uring_.reserve_for(operation), fd_, operation);
  }
  send(operation, write ? LaneCall::write : LaneCall::read);
}

void FdChannel::send(Operation& operation, LaneCall call) {
  with_worker(operation) = true;
  if (moves_data(call)) operation.part = std::min<uint64_t>(operation.part, kLaneCallBytesMax);
  lane_.submit(operation, call);
}

LaneCall FdChannel::discard_call(const Operation& operation) const {
  if (operation.secure) return LaneCall::secure_discard;
  if (operation.zeroes == Zeroes::may_free) return LaneCall::zero;
  if (operation.zeroes == Zeroes::keep) return LaneCall::zero_keep;
  if (operation.zeroes == Zeroes::fast) return LaneCall::zero_fast;
  return target_.facts().kind == MediumKind::file ? LaneCall::punch_hole : LaneCall::discard;
}

// Devices do not say what is a hole.
std::optional<LaneCall> FdChannel::map_call(const Operation& operation) const {
  if (target_.facts().kind == MediumKind::file) return LaneCall::map;
  if (operation.by_reading) return LaneCall::map_zeroes;
  return std::nullopt;
}

bool FdChannel::takes_discard(const Operation& operation) const {
  const Capabilities& can = target_.capabilities();
  if (operation.zeroes != Zeroes::no) return !can.read_only;
  return operation.secure ? can.secure_discard : can.discard;
}

}  // namespace ringdisk
