// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/operation.h"
#include "targets/channel_before.h"

namespace ringdisk {

// In front of a channel whose device takes so many bytes at once and no more: what is longer goes
// as several operations of its own, which are under way together. Everything else is handed on as
// it is. Parts that are under way at a time are bounded; those that would be more wait for their
// turn, the oldest request first.
class SplitChannel final : public ChannelBefore, private OperationSink {
 public:
  SplitChannel(std::unique_ptr<TargetChannel> inner, uint64_t bytes_max, size_t parts_max);

  bool start(Operation& operation) override;

 private:
  void finished(Operation& part) override;
  bool start_parts(Operation& whole);
  Operation& take_part(Operation& whole);
  void part_done(const Operation& part);
  void start_waiting();

  const uint64_t bytes_max_;
  std::vector<Operation> parts_;
  std::vector<Operation*> free_;
  Operation* waiting_ = nullptr;  // not all of their parts have begun; linked by next
  Operation** waiting_tail_ = &waiting_;
};

}  // namespace ringdisk
