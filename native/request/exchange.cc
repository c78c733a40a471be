// SPDX-License-Identifier: Apache-2.0
// Another stack of channels while the guest runs, in two phases over all queues of a VBD: each
// queue makes what is to come and starts nothing more until nothing is with its channels; when all
// of them are so far, each changes its stack and goes on. So no operation goes by the new stack
// while another one goes by the old. If one queue can't, none does.
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "channels/marking_filter.h"
#include "request/request_engine.h"

namespace ringdisk {

void RequestEngine::prepare(const StackChange& change, std::function<void(int error)> ready) {
  if (closing_) return ready(ECANCELED);
  if (change_) return ready(EBUSY);
  if (!change.make && !change.target && !stack_.has(change.goes)) return ready(ENOENT);
  auto prepared = std::make_unique<Change>();
  prepared->goes = change.goes;
  prepared->target = change.target;
  try {
    if (change.make) prepared->comes = change.make(context_);
    if (change.target) prepared->bottom = change.target->open_channel(context_);
  } catch (const std::system_error& error) {
    return ready(error.code().value());
  } catch (const std::bad_alloc&) {
    return ready(ENOMEM);
  }
  prepared->ready = std::move(ready);
  prepared->engine = this;
  change_ = std::move(prepared);
  alarms_.set(*change_, clock_us() + change.patience_us);
  tell_if_quiet();
}

// What waits to be tried again is with no channel.
void RequestEngine::tell_if_quiet() {
  if (!change_->ready || in_flight_count_ != retrying_count_) return;
  alarms_.cancel(*change_);
  std::exchange(change_->ready, nullptr)(0);
}

void RequestEngine::commit() {
  if (!change_) return;  // it was closed
  const std::unique_ptr<Change> change = std::move(change_);
  if (change->comes)
    put_filter(std::move(change->comes));
  else if (change->target)
    change_target(*change);
  else
    stack_.remove(change->goes);
  reactor_.activate(transport_);
}

// The one that marks stays before it: it sees what the guest asks, whoever carries it out.
void RequestEngine::put_filter(std::unique_ptr<Filter> filter) {
  if (std::exchange(tracked_, nullptr)) stack_.remove(MarkingFilter::kId);
  stack_.put(std::move(filter));
  follow_target();
}

// Its blocks are no larger than those of the one before, so that what was cut for that fits.
void RequestEngine::change_target(Change& change) {
  stack_.replace(std::move(change.bottom));
  target_ = std::move(change.target);
  tracked_ = nullptr;
  follow_target();
}

void RequestEngine::abandon() {
  if (change_) give_up_change(ECANCELED);
}

void RequestEngine::cancel_prepare() {
  if (change_ && change_->ready) give_up_change(ECANCELED);
}

void RequestEngine::Change::on_alarm(uint64_t) { engine->give_up_change(ETIMEDOUT); }

void RequestEngine::give_up_change(int error) {
  const std::unique_ptr<Change> change = std::move(change_);
  alarms_.cancel(*change);
  if (change->ready) change->ready(error);
  blocked_ = false;  // nobody may sleep before start() has looked again
  reactor_.activate(transport_);
}

}  // namespace ringdisk
