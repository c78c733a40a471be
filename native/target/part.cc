// SPDX-License-Identifier: Apache-2.0
#include "target/part.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "target/iovec_window.h"

namespace ringdisk {
namespace {

static_assert(sizeof(IovecWindow) <= sizeof(Operation::scratch));
static_assert(alignof(IovecWindow) <= 8);

// Only transfers have a window; other kinds use the scratch space for something else.
bool has_window(const Operation& operation) {
  return operation.kind == Operation::Kind::read || operation.kind == Operation::Kind::write;
}

IovecWindow& window(Operation& operation) {
  return *std::launder(reinterpret_cast<IovecWindow*>(operation.scratch));
}

std::span<iovec> memory(const Operation& operation) {
  return {operation.iovecs, operation.iovec_count};
}

}  // namespace

void begin_parts(Operation& operation) {
  operation.done = 0;
  operation.part = 0;
  operation.retries = 0;
  if (has_window(operation)) new (operation.scratch) IovecWindow{};
}

std::span<iovec> open_window(Operation& operation) {
  return window(operation).open(memory(operation), operation.done, operation.part);
}

void close_window(Operation& operation) {
  if (has_window(operation)) window(operation).close(memory(operation));
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

}  // namespace ringdisk
