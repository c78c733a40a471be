// SPDX-License-Identifier: Apache-2.0
#include "targets/part.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "medium/block_map.h"

namespace ringdisk {

void begin_parts(Operation& operation) {
  operation.done = 0;
  operation.part = 0;
  operation.retries = 0;
}

uint64_t discard_part_bytes(const Operation& operation) {
  return std::min(operation.length - operation.done, kDiscardPartBytes);
}

bool may_retry(Operation& operation, int32_t part_result) {
  if (part_result != -EAGAIN && part_result != -EINTR) return false;
  return operation.retries++ < kRetriesMax;
}

bool finish(Operation& operation, int32_t result) {
  operation.result = result;
  return true;
}

bool map_as_data(Operation& operation) {
  const MapExtent all[] = {{operation.length, MapKind::data}, {}};
  std::memcpy(operation.memory, all, sizeof all);
  return finish(operation, 0);
}

}  // namespace ringdisk
