// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "reactor/poller.h"
#include "request/slot.h"

namespace ringdisk {

// What brings requests to an engine and takes its answers: a blkif ring, later a connection of
// another protocol. The reactor polls it, and it polls its engine. Each call is for all requests of
// a round together, so that none costs a call of its own.
class Transport : public Poller {
 public:
  // The data of these writes comes in, to data(). Sets `fault` where it can't be had.
  virtual void fetch(std::span<Slot* const> writes) = 0;
  // The data of these reads goes out. Sets `fault` where it can't be given.
  virtual void deliver(std::span<Slot* const> reads) = 0;
  // These are over, in this order: with `fault` by the asker's own fault, else with `result`. Their
  // slots are the transport's again. The answers are shown after this.
  virtual void answer(std::span<Slot* const> over) = 0;
  // Requests failed, wait and are tried again; `error` is the first one's errno. Then: none does.
  virtual void io_failing(int error) = 0;
  virtual void io_recovered() = 0;
};

}  // namespace ringdisk
