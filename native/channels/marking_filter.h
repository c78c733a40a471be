// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "base/bitmap.h"
#include "base/kill_point.h"
#include "channels/filter.h"

namespace ringdisk {

// Marks in bitmaps what is about to be written, before it is handed on: whoever dies when, no block
// that was written is missing. What fails stays marked.
class MarkingFilter final : public Filter {
 public:
  // No other filter has this number.
  static constexpr uint32_t kId = UINT32_MAX;

  explicit MarkingFilter(std::shared_ptr<const Bitmaps> bitmaps)
      : Filter(kId), bitmaps_(std::move(bitmaps)) {}

  bool start(Operation& operation) override {
    using Kind = Operation::Kind;
    const bool is_missed = RD_PLANTED("unmarked") && operation.kind == Kind::discard;
    if ((operation.kind == Kind::write || operation.kind == Kind::discard) && !is_missed)
      mark(*bitmaps_, operation.offset, operation.length);
    return hand_on(operation);
  }

  static void mark(const Bitmaps& bitmaps, uint64_t offset, uint64_t length) {
    for (const auto& bitmap : bitmaps) bitmap->set(offset, length);
    RD_KILL_POINT("mark:marked");
  }

 private:
  const std::shared_ptr<const Bitmaps> bitmaps_;
};

}  // namespace ringdisk
