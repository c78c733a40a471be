// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "channels/filter.h"
#include "ring/queue.h"

namespace ringdisk {

// A change of a VBD's stacks under way (request/exchange.cc): all queues, or none. Reactors lead it
// among themselves, so that the guest never waits for the owner's thread.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  struct Member {
    Reactor* reactor;
    Queue* queue;  // lives until `over` has been called
  };
  // `over` is called once, on a reactor's thread: 0, or an errno when all is as it was. `held`,
  // where it is given: when all are quiet, nothing is done but by decide().
  Exchange(std::vector<Member> members, StackChange change, std::function<void(int error)> over,
           std::function<void()> held = {});

  // Both on the owner's thread.
  void begin();
  // As soon as may be; what is nearly done is done.
  void give_up();
  // Once, after `held`: 0, or why all is to be as it was.
  void decide(int error) { conclude(error); }

 private:
  void on_ready(int error);
  void conclude(int error);

  const std::vector<Member> members_;
  const StackChange change_;
  const std::function<void(int)> over_;
  const std::function<void()> held_;
  std::atomic<size_t> preparing_;
  std::atomic<size_t> concluding_;
  std::atomic<int> error_{0};  // the first
};

// What to tell the operator.
const char* exchange_failure(int error);

}  // namespace ringdisk
