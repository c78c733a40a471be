// SPDX-License-Identifier: Apache-2.0
// A connected socket on a reactor: one receive and one send under way at a time.
#pragma once

#include <cstddef>
#include <span>

#include "base/fd.h"
#include "io/operation.h"
#include "io/uring.h"
#include "nbd/completions.h"

namespace ringdisk::nbd {

class Socket {
 public:
  // `sink` is told of each end: operation.result has the bytes, 0 at the stream's end, or -errno.
  Socket(Uring& uring, Fd fd, OperationSink& sink);
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // At least one byte, or with `whole` as many as there is room for.
  void receive(std::span<std::byte> room, bool whole);
  void send(std::span<std::byte> bytes);
  bool receives() const { return receiving_; }
  bool sends() const { return sending_; }
  bool is_receive(const Operation& operation) const { return &operation == &receive_; }
  // By the sink, first thing in finished().
  void ended(const Operation& operation) {
    (is_receive(operation) ? receiving_ : sending_) = false;
  }
  // What is under way ends soon, and nothing more can be started with success.
  void shut_down();

 private:
  Uring& uring_;
  const Fd fd_;
  Completions completions_;
  Operation receive_{};
  Operation send_{};
  bool receiving_ = false;
  bool sending_ = false;
};

}  // namespace ringdisk::nbd
