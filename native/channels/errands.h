// SPDX-License-Identifier: Apache-2.0
// What a queue's channel does not do by itself and sends to the disk's home: it is carried out
// there, on another reactor maybe, and comes back to the queue's thread.
#pragma once

#include <atomic>
#include <vector>

#include "base/assert.h"
#include "base/fifo.h"
#include "io/operation.h"
#include "targets/lanes.h"
#include "targets/target.h"

namespace ringdisk {

template <typename Errand>
class Errands {
 public:
  // The home outlives it.
  explicit Errands(const ChannelContext& context) : lanes_(context.lanes), all_(context.depth) {
    for (Errand& errand : all_) free_.push(errand);
  }

  // For an operation of the queue's; to be sent.
  Errand& make(Operation& operation) {
    RD_ASSERT(!free_.empty());
    Errand& errand = *free_.pop();
    errand.from = this;
    errand.asked = &operation;
    errand.operation = operation;  // here: it may be cancelled while the home has it
    return errand;
  }
  template <typename Home>
  static void send(Errand& errand, Home& home) {
    home.post([&home, &errand] { home.take(errand); });
  }
  void cancel_discards() { discards_are_cancelled_.store(true, std::memory_order_relaxed); }

  // Any thread.
  bool discards_are_cancelled() const {
    return discards_are_cancelled_.load(std::memory_order_relaxed);
  }
  // Done, or failed: by the home.
  void back(Errand& errand) {
    lanes_.post([this, &errand] { over(errand); });
  }

 private:
  void over(Errand& errand) {
    Operation& operation = *errand.asked;
    operation.result = errand.result;
    free_.push(errand);
    operation.sink->finished(operation);
  }

  Lanes& lanes_;
  std::atomic<bool> discards_are_cancelled_{false};
  std::vector<Errand> all_;
  Fifo<Errand> free_;
};

}  // namespace ringdisk
