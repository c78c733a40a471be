// SPDX-License-Identifier: Apache-2.0
// The operation that a request becomes.
#include <cerrno>

#include "base/kill_point.h"
#include "metrics/probes.h"
#include "request/request_engine.h"

namespace ringdisk {

void RequestEngine::start(Slot& slot) {
  if (slot.fault) {
    complete(slot, -EFAULT);
    return reactor_.mark_dirty(transport_);
  }
  switch (slot.valid.kind) {
    case Kind::read:
      return start_io(slot, Stage::read, Operation::Kind::read);
    case Kind::write:
      return start_write(slot);
    case Kind::barrier:
      return start_io(slot, Stage::barrier_before, Operation::Kind::flush);
    case Kind::flush:
      return start_io(slot, Stage::flush, Operation::Kind::flush);
    case Kind::discard:
      return start_discard(slot);
    case Kind::map:
      return start_io(slot, Stage::read, Operation::Kind::map);
  }
}

void RequestEngine::start_write(Slot& slot) {
  if (!needs_old_data(slot)) return start_io(slot, Stage::write, Operation::Kind::write);
  counters_.read_modify_writes.add();
  start_io(slot, Stage::old_data, Operation::Kind::read);
}

void RequestEngine::start_io(Slot& slot, Stage stage, Operation::Kind kind) {
  slot.stage = stage;
  slot.operation = {};
  Operation& operation = slot.operation;
  operation.kind = kind;
  if (kind != Operation::Kind::flush) {
    operation.offset = slot.offset;
    operation.length = slot.length;
    if (RD_PLANTED("torn") && kind == Operation::Kind::write && slot.length > kSectorBytes)
      operation.length -= kSectorBytes;
    operation.memory = slot.bounce.memory.data();
    operation.registered = slot.bounce.registered;
    operation.by_reading = slot.valid.by_reading;
  }
  submit(slot);
}

// Only whole medium blocks can be given back; a discard is a hint, so what is left over is kept.
void RequestEngine::start_discard(Slot& slot) {
  const uint64_t first = (slot.offset + io_alignment_ - 1) / io_alignment_ * io_alignment_;
  const uint64_t end = (slot.offset + slot.length) / io_alignment_ * io_alignment_;
  slot.stage = Stage::write;
  slot.operation = {};
  Operation& operation = slot.operation;
  operation.kind = Operation::Kind::discard;
  operation.secure = slot.valid.secure;
  operation.zeroes = slot.valid.zeroes;
  operation.offset = first;
  operation.length = end > first ? end - first : 0;
  operation.owner = &slot;
  // Nobody waits for what is taken away; and what is to be unreadable is so to the last byte, or
  // the guest is told.
  const bool is_whole = first == slot.offset && end == slot.offset + slot.length;
  if (closing_) operation.result = -ECANCELED;
  const bool promises = slot.valid.secure || slot.valid.zeroes != Zeroes::no;
  if (promises && !is_whole) operation.result = -EINVAL;
  if (operation.length == 0 || operation.result != 0) return finished(operation);
  submit(slot);
}

void RequestEngine::submit(Slot& slot) {
  Operation& operation = slot.operation;
  operation.channel = stack_.top();
  operation.sink = this;
  operation.owner = &slot;
  RD_PROBE(request_submitted, vbd_name_, queue_, slot.index, static_cast<int>(operation.kind),
           operation.offset, operation.length);
  if (operation.channel->start(operation)) finished(operation);
}

// Called by the reactor for each operation the target is done with; finish() looks at them
// together.
void RequestEngine::finished(Operation& operation) {
  auto& slot = *static_cast<Slot*>(operation.owner);
  RD_PROBE(request_completed, vbd_name_, queue_, slot.index, static_cast<int>(operation.kind),
           operation.result);
  completed_.push(slot);
  reactor_.mark_dirty(transport_);
}

}  // namespace ringdisk
