// SPDX-License-Identifier: Apache-2.0
// One place, on one reactor, that carries out what all queues of a disk ask of it (fill_home.h,
// mirror_home.h): one thing after the other. What follows from one is not done in the middle of it.
#pragma once

#include <functional>
#include <utility>

#include "base/fifo.h"
#include "io/operation.h"
#include "targets/target.h"

namespace ringdisk {

class Home : private OperationSink {
 public:
  // Runs something on the home's thread; any thread calls it.
  using Post = std::function<void(std::function<void()>)>;

  explicit Home(Post post) : post_(std::move(post)) {}
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;

  void post(std::function<void()> work) { post_(std::move(work)); }

 protected:
  // `owner`: what handle() finds as the operation's.
  void submit(Operation& operation, void* owner, TargetChannel& channel) {
    operation.channel = &channel;
    operation.sink = this;
    operation.owner = owner;
    operation.next = nullptr;
    if (channel.start(operation)) finished(operation);
  }
  // What comes from outside is done as a part of run(), too.
  template <typename Work>
  void enter(Work work) {
    const bool outer = std::exchange(running_, true);
    work();
    running_ = outer;
    run();
  }
  // Whatever there is.
  void run() {
    if (running_) return;
    running_ = true;
    for (;;) {
      if (Operation* operation = completed_.pop())
        handle(*operation);
      else if (!run_one() && completed_.empty())
        break;
    }
    running_ = false;
    rest();
  }

 private:
  // An operation is over.
  virtual void handle(Operation& operation) = 0;
  // The next of what waits here. False: there is nothing.
  virtual bool run_one() = 0;
  // Nothing is left to be done for now.
  virtual void rest() = 0;

  void finished(Operation& operation) final {
    completed_.push(operation);
    run();
  }

  const Post post_;
  Fifo<Operation> completed_;
  bool running_ = false;
};

}  // namespace ringdisk
