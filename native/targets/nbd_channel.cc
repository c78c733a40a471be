// SPDX-License-Identifier: Apache-2.0
#include "targets/nbd_channel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "protocol/limits.h"
#include "targets/part.h"
#include "targets/split_channel.h"

namespace ringdisk {
namespace {

using Kind = Operation::Kind;
using nbd::Command;
using nbd::Error;

// So many connections one after the other that answered nothing: what they were asked is what they
// die of, and fails.
constexpr uint32_t kFailuresMax = 4;

uint32_t next_id() {
  static std::atomic<uint32_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

// Coarse: a few milliseconds late, but no system call in any domain.
uint64_t coarse_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

int32_t to_result(Error error) {
  switch (error) {
    case Error::none:
      return 0;
    case Error::not_permitted:
      return -EPERM;
    case Error::no_memory:
      return -ENOMEM;
    case Error::invalid:
      return -EINVAL;
    case Error::no_space:
      return -ENOSPC;
    case Error::not_supported:
      return -EOPNOTSUPP;
    default:
      return -EIO;
  }
}

bool changes(const Operation& operation) {
  return operation.kind == Kind::write || operation.kind == Kind::discard;
}

Command command_of(const Operation& operation) {
  switch (operation.kind) {
    case Kind::read:
      return Command::read;
    case Kind::write:
      return Command::write;
    case Kind::flush:
      return Command::flush;
    case Kind::discard:
      return operation.zeroes == Zeroes::no ? Command::trim : Command::write_zeroes;
    case Kind::map:
      break;
  }
  return Command::block_status;
}

uint16_t flags_of(const Operation& operation) {
  if (operation.kind != Kind::discard) return 0;
  if (operation.zeroes == Zeroes::keep) return nbd::kNoHole;
  return operation.zeroes == Zeroes::fast ? nbd::kFastZero : 0;
}

void put_request(std::byte* to, uint16_t flags, Command command, uint64_t cookie, uint64_t offset,
                 uint32_t length) {
  to = nbd::put(to, nbd::kRequestMagic);
  to = nbd::put(to, flags);
  to = nbd::put(to, static_cast<uint16_t>(command));
  to = nbd::put(to, cookie);
  to = nbd::put(to, offset);
  nbd::put(to, length);
}

}  // namespace

std::unique_ptr<TargetChannel> open_nbd_channel(std::shared_ptr<NbdServer> server,
                                                const ChannelContext& context) {
  const uint64_t bytes_max = server->facts().nbd.bytes_max;
  const bool splits = bytes_max < kRequestBytesMax;
  const uint64_t parts = splits ? (kRequestBytesMax + bytes_max - 1) / bytes_max : 1;
  const auto requests =
      static_cast<uint32_t>(std::min<uint64_t>(context.depth * parts, kRingEntriesMax));
  auto channel = std::make_unique<NbdChannel>(std::move(server), context, requests);
  if (!splits) return channel;
  return std::make_unique<SplitChannel>(std::move(channel), bytes_max, requests);
}

NbdChannel::NbdChannel(std::shared_ptr<NbdServer> server, const ChannelContext& context,
                       uint32_t requests_max)
    : server_(std::move(server)),
      facts_(server_->facts()),
      uring_(context.uring),
      id_(next_id()),
      seat_(std::make_shared<Seat>()),
      stream_(context.uring, *this),
      replies_(requests_max),
      by_tag_(requests_max) {
  seat_->lanes = &context.lanes;
  seat_->channel = this;
  server_->enter(waits_);
}

NbdChannel::~NbdChannel() {
  RD_ASSERT(waits_.operations.load(std::memory_order_relaxed) == 0);
  {
    const std::lock_guard lock(seat_->mutex);
    seat_->lanes = nullptr;
    seat_->channel = nullptr;
  }
  if (state_ == State::wants_one) server_->forget(id_);
  server_->leave(waits_);
}

bool NbdChannel::start(Operation& operation) {
  begin_parts(operation);
  operation.result = 0;
  if (operation.kind == Kind::map) return map_as_data(operation);
  if (!takes(operation) || operation.result != 0) return true;
  if (operation.kind == Kind::flush && (facts_.nbd.flags & nbd::kSendFlush) == 0)
    return finish(operation, 0);
  if (is_down_) return finish(operation, -EIO);
  if (waits_.operations.fetch_add(1, std::memory_order_relaxed) == 0) progress();
  uring_.count_begun();
  waiting_.push(operation);
  if (state_ == State::idle) want_connection();
  if (state_ == State::up) send_waiting();
  return false;
}

// False: it has its result.
bool NbdChannel::takes(Operation& operation) const {
  const Capabilities& can = facts_.capabilities;
  const auto refuse = [&](int32_t result) {
    operation.result = result;
    return false;
  };
  if (operation.kind == Kind::write && can.read_only) return refuse(-EROFS);
  if (operation.kind != Kind::discard) return true;
  if (operation.secure || can.read_only) return refuse(-EOPNOTSUPP);
  if (operation.zeroes == Zeroes::no) return can.discard || refuse(-EOPNOTSUPP);
  const uint16_t needed =
      operation.zeroes == Zeroes::fast ? nbd::kSendFastZero : nbd::kSendWriteZeroes;
  return (facts_.nbd.flags & needed) != 0 || refuse(-EOPNOTSUPP);
}

void NbdChannel::send_waiting() {
  while (!waiting_.empty() && replies_.has_room() && stream_.has_room()) {
    Operation& operation = *waiting_.pop();
    if (operation.cancelled)
      end_operation(operation, -ECANCELED);
    else
      encode(operation);
  }
  stream_.send();
}

void NbdChannel::encode(Operation& operation) {
  const bool is_discard = operation.kind == Kind::discard;
  operation.part = is_discard ? discard_part_bytes(operation) : operation.length;
  const auto length = static_cast<uint32_t>(operation.part);
  const uint64_t offset = operation.offset + operation.done;
  const uint32_t tag = replies_.begin(operation.kind == Kind::read, offset, length);
  by_tag_[tag] = &operation;
  if (operation.kind == Kind::flush) server_->flushing();
  const bool brings_data = operation.kind == Kind::write;
  std::byte* header = stream_.add({operation.memory, brings_data ? length : 0});
  put_request(header, flags_of(operation), command_of(operation), replies_.cookie(tag), offset,
              length);
}

// Of one of the stream's two.
bool NbdChannel::advance(Operation& operation, int32_t part_result) {
  const bool is_receive = stream_.is_receive(operation);
  const bool goes_on = is_receive ? stream_.received(part_result) : stream_.sent(part_result);
  if (state_ == State::ends || state_ == State::closed) {
    if (!stream_.is_under_way()) left();
    return false;
  }
  if (!goes_on) {
    lose();
    return false;
  }
  if (is_receive) look();
  if (state_ != State::up) return false;
  send_waiting();
  stream_.receive();
  return false;
}

void NbdChannel::look() {
  progress();
  if (stream_.lacks_data()) return;
  while (state_ == State::up && step()) continue;
}

// False: more must come first.
bool NbdChannel::step() {
  using What = nbd::Replies::Step::What;
  const nbd::Replies::Step step = replies_.next(stream_.bytes());
  stream_.take(step.taken);
  switch (step.what) {
    case What::more:
      return step.taken > 0;
    case What::data:
      return stream_.put(by_tag_[step.tag]->memory + step.at, step.length);
    case What::zeroes:
      std::memset(by_tag_[step.tag]->memory + step.at, 0, step.length);
      return true;
    case What::finished:
      answered(step.tag, step.error);
      return true;
    case What::broken:
      lose();
      return false;
  }
  return false;
}

void NbdChannel::answered(uint32_t tag, Error error) {
  Operation& operation = *std::exchange(by_tag_[tag], nullptr);
  has_answered_ = true;
  failures_ = 0;
  const int32_t result = to_result(error);
  if (changes(operation) || (operation.kind == Kind::flush && result != 0)) server_->changed();
  if (result != 0) return end_operation(operation, result);
  operation.done += operation.part;
  if (operation.done == operation.length) return end_operation(operation, 0);
  if (operation.cancelled) return end_operation(operation, -ECANCELED);
  waiting_.push(operation);
}

void NbdChannel::end_operation(Operation& operation, int32_t result) {
  waits_.operations.fetch_sub(1, std::memory_order_relaxed);
  uring_.count_over();
  operation.result = result;
  operation.sink->finished(operation);
}

void NbdChannel::fail_all() {
  Fifo<Operation> failing = waiting_.take();
  while (Operation* operation = failing.pop()) end_operation(*operation, -EIO);
}

void NbdChannel::want_connection() {
  state_ = State::wants_one;
  waits_.has_connection.store(false, std::memory_order_relaxed);
  server_->connect({.id = id_,
                    .ended = peer_,
                    .failures = failures_,
                    .on_told = [seat = seat_](const Workers::Connection& connection) {
                      const std::lock_guard lock(seat->mutex);
                      if (!seat->lanes) return;
                      seat->lanes->post([seat, connection] {
                        if (seat->channel) seat->channel->told(connection);
                      });
                    }});
}

void NbdChannel::told(const Workers::Connection& connection) {
  if (state_ != State::wants_one) return;
  is_down_ = !connection.socket;
  if (is_down_) {
    server_->unreachable(waits_, connection.why);
    return fail_all();
  }
  state_ = State::up;
  if (failures_ >= kFailuresMax) fail_all();
  server_->connected(waits_, connection.server);
  peer_ = connection.peer;
  has_answered_ = false;
  replies_.reset();
  stream_.open(std::move(*connection.socket));
  waits_.has_connection.store(true, std::memory_order_relaxed);
  progress();
  stream_.receive();
  send_waiting();
}

// What was under way on the socket may still be at its buffers: they come back first.
void NbdChannel::lose() {
  state_ = State::ends;
  stream_.shut_down();
  if (!stream_.is_under_way()) left();
}

void NbdChannel::left() {
  stream_.close();
  waits_.has_connection.store(false, std::memory_order_relaxed);
  if (state_ == State::closed) {
    if (done_) std::exchange(done_, nullptr)();
    return;
  }
  if (!has_answered_) failures_++;
  for (Operation*& operation : by_tag_) {
    if (!operation) continue;
    if (operation->kind == Kind::flush) server_->changed();
    waiting_.push(*std::exchange(operation, nullptr));
  }
  if (!waiting_.empty())
    want_connection();
  else
    state_ = State::idle;
}

// Those that were not sent yet.
void NbdChannel::cancel_discards() {
  Fifo<Operation> all = waiting_.take();
  while (Operation* operation = all.pop()) {
    if (operation->cancelled)
      end_operation(*operation, -ECANCELED);
    else
      waiting_.push(*operation);
  }
}

void NbdChannel::close(std::function<void()> done) {
  const State before = std::exchange(state_, State::closed);
  if (before == State::wants_one) server_->forget(id_);
  if (before == State::up) {
    std::array<std::byte, nbd::kRequestBytes> bye{};
    put_request(bye.data(), 0, Command::disconnect, 0, 0, 0);
    if (!breaks_off_) stream_.say(bye);
    stream_.shut_down();
  }
  done_ = std::move(done);
  if (!stream_.is_under_way()) left();
}

void NbdChannel::progress() { waits_.since_us.store(coarse_us(), std::memory_order_relaxed); }

}  // namespace ringdisk
