// SPDX-License-Identifier: Apache-2.0
#include "nbd/connection.h"

#include <new>
#include <system_error>
#include <utility>

#include "base/assert.h"

namespace ringdisk::nbd {
namespace {

// Less than this is received as it comes.
constexpr uint64_t kWholeMin = 32u << 10;
constexpr size_t kReceiveMax = 1u << 20;

}  // namespace

// A request's life, first half: taken out of what was received, checked, handed to the engine.
bool Connection::poll() {
  if (!requests_ && !closing_) negotiate();
  const bool taken = requests_ && take();
  const bool started = requests_ && requests_->start();
  receive();
  send();
  leave_if_done();
  return taken || started;
}

// A request's life, second half: the target is done with some of them, or the socket with a part of
// the stream.
void Connection::finish() {
  if (requests_) requests_->finish();
  send();
  leave_if_done();
  reactor_.activate(*this);
}

Connection::Connection(Reactor& reactor, Fd socket, Setup setup)
    : reactor_(reactor),
      setup_(std::move(setup)),
      in_(kInBytes),
      out_(kOutBytes),
      socket_(reactor.uring(), std::move(socket), *this),
      negotiation_(setup_.exports->facts, saying_),
      must_agree_by_us_(Reactor::now_us() + kNegotiationUs) {
  reactor_.add(*this);
  reactor_.wake_by(*this, must_agree_by_us_);
}

Connection::~Connection() { RD_ASSERT(let_go_); }

void Connection::negotiate() {
  say();
  if (!saying_.empty() || leaving_) return;
  in_.take(negotiation_.feed(in_.bytes(), saying_));
  say();
  if (negotiation_.state() == Negotiation::State::over || at_end_) leaving_ = true;
  if (negotiation_.state() == Negotiation::State::agreed) agree();
}

// What does not fit goes when there is room.
void Connection::say() {
  const size_t now = std::min(saying_.size(), out_.room());
  out_.add(std::span(saying_).first(now));
  saying_.erase(saying_.begin(), saying_.begin() + static_cast<ptrdiff_t>(now));
}

void Connection::agree() {
  agreement_ = negotiation_.agreement();
  const Export& chosen = setup_.exports->all[agreement_.index];
  facts_ = chosen.facts;
  bitmaps_ = chosen.bitmaps;
  detect_zeroes_ = chosen.detect_zeroes;
  style_ = {.structured = agreement_.structured, .extended = agreement_.extended};
  try {
    parts_ = std::make_unique<SlotPool<Part>>(kTasksMax);
    tasks_.resize(kTasksMax);
    for (Task& task : tasks_) free_tasks_.push_back(&task);
    const RequestEngine::Setup engine{.target = chosen.target,
                                      .on_error = OnError::report,
                                      .flush_errors_told = true,
                                      .depth = kTasksMax,
                                      .vbd_name = chosen.id,
                                      .queue = 0};
    requests_ = std::make_unique<RequestEngine>(reactor_, *this, engine, *setup_.counters);
  } catch (const std::system_error&) {
    return close();
  } catch (const std::bad_alloc&) {
    return close();
  }
  const Agreed agreed = setup_.agreed(chosen.id);
  if (agreed.limits) requests_->limit(agreed.limits);
  if (!agreed.is_there) close();
}

void Connection::finished(Operation& operation) {
  socket_.ended(operation);
  if (socket_.is_receive(operation))
    received(operation.result);
  else
    sent(operation.result);
  reactor_.activate(*this);
  reactor_.mark_dirty(*this);
}

void Connection::received(int32_t result) {
  if (result == -EINTR || result == -EAGAIN) return;
  if (result < 0) return close();
  if (result == 0) at_end_ = true;
  in_.add(static_cast<size_t>(result));
  used_at_us_ = reactor_.recent_us();
  if (!std::exchange(holds_memory_, true)) reactor_.wake_by(*this, used_at_us_ + kIdleUs);
}

void Connection::sent(int32_t result) {
  if (result == -EINTR || result == -EAGAIN) return;
  if (result <= 0) return close();
  out_.take(static_cast<size_t>(result));
}

void Connection::receive() {
  if (closing_ || leaving_ || at_end_ || socket_.receives()) return;
  const uint64_t have = in_.bytes().size();
  const uint64_t needed = wanted_ > have ? wanted_ - have : 0;
  if (unfetched_ == 0 && (have == 0 || in_.room().size() < std::max(needed, kWholeMin)))
    in_.compact();
  const size_t room = std::min(in_.room().size(), kReceiveMax);
  if (room == 0) return;
  // Of long data what is missing, so that it does not come in many pieces.
  const bool whole = needed >= kWholeMin;
  socket_.receive(in_.room().first(whole ? std::min<size_t>(room, needed) : room), whole);
}

void Connection::send() {
  if (closing_ || socket_.sends() || out_.used() == 0) return;
  socket_.send(out_.front());
}

bool Connection::try_sleep() { return !requests_ || requests_->may_sleep(); }

void Connection::on_deadline(uint64_t now_us) {
  if (requests_) requests_->run_alarms(now_us);
  if (!requests_ && !closing_) {
    if (now_us >= must_agree_by_us_) close();
    reactor_.wake_by(*this, std::max(must_agree_by_us_, now_us + 1));
  }
  if (holds_memory_ && now_us >= used_at_us_ + kIdleUs && all_over() && out_.used() == 0 &&
      in_.bytes().empty()) {
    in_.give_back();
    out_.give_back();
    // The engine's goes some at a time.
    holds_memory_ = requests_ && !requests_->give_memory_back();
    if (holds_memory_) reactor_.wake_by(*this, now_us + kUnmapPauseUs);
  } else if (holds_memory_)
    reactor_.wake_by(*this, std::max(used_at_us_, now_us) + kIdleUs);
  reactor_.activate(*this);
}

void Connection::close() {
  if (std::exchange(closing_, true)) return;
  socket_.shut_down();
  if (requests_) requests_->close();
  reactor_.mark_dirty(*this);
  reactor_.activate(*this);
}

void Connection::leave_if_done() {
  if (leaving_ && all_over() && out_.used() == 0 && saying_.empty()) close();
  if (!closing_ || let_go_ || socket_.receives() || socket_.sends()) return;
  if (requests_ && !requests_->idle()) return;
  let_go_ = true;
  reactor_.later([this] {
    if (!requests_) return let_go();
    requests_->end([this] { let_go(); });
  });
}

// No poller is running.
void Connection::let_go() {
  reactor_.remove(*this);
  setup_.gone();
}

}  // namespace ringdisk::nbd
