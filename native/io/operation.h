// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/zeroes.h"

namespace ringdisk {

class TargetChannel;
class OperationSink;

// What a queue asks of a target: one per slot, owned by the slot, fixed in memory until it is
// finished. A target may carry it out in several parts, one after the other; `user_data` of every
// io_uring submission on its behalf is the Operation's address.
struct Operation {
  // map: what of the range is data, into `memory` as medium/block_map.h has it.
  enum class Kind : uint8_t { read, write, flush, discard, map };

  Kind kind;
  bool secure = false;         // discard: the secure variant
  Zeroes zeroes = Zeroes::no;  // discard
  bool by_reading = false;     // map: zeroes are looked for where the medium does not tell
  bool cancelled = false;      // discard: nobody waits for it, start no further part (-ECANCELED)
  uint64_t offset = 0;         // bytes on the target
  uint64_t length = 0;         // bytes; 0 for flush
  // Read, write: `length` bytes on a page boundary, never a guest's own.
  std::byte* memory = nullptr;
  bool registered = false;  // the memory lies in the reactor's registered bounce pool
  // Ends when somebody who talks to us does something, not when a medium has.
  bool waits_for_client = false;
  int32_t result = 0;  // once finished: 0 or -errno

  TargetChannel* channel = nullptr;  // who carries it out
  OperationSink* sink = nullptr;     // who is told when it is finished
  void* owner = nullptr;             // the sink's: what it is part of

  // The target's scratch space while the operation is with it.
  uint64_t done = 0;  // bytes finished so far
  uint64_t part = 0;  // bytes asked for by the part under way
  uint32_t retries = 0;
  alignas(8) unsigned char scratch[16] = {};  // e.g. NVMe's range list: memory the kernel reads

  // Intrusive link and result used between reaping and running completions.
  Operation* next = nullptr;
  int32_t part_result = 0;
};

// Told on the reactor's thread, outside the reaping loop.
class OperationSink {
 public:
  virtual ~OperationSink() = default;
  virtual void finished(Operation& operation) = 0;
};

}  // namespace ringdisk
