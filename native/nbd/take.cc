// SPDX-License-Identifier: Apache-2.0
// Requests out of what a client sent, cut into parts for the engine.
#include <algorithm>

#include "nbd/connection.h"

namespace ringdisk::nbd {

using Kind = ValidRequest::Kind;

bool Connection::take() {
  if (closing_ || !requests_->takes_more()) return false;
  wanted_ = 0;
  uint32_t begun = 0;
  while (!closing_ && begun < kTakeBatch) {
    if (skip_ > 0 && !skip_payload()) break;
    if (!current_ && !again_.empty()) {
      current_ = again_.back();
      again_.pop_back();
    }
    if (!current_ && !take_request()) break;
    if (!current_) continue;  // it has been answered
    if (!begin(*current_)) break;
    begun++;
  }
  return begun > 0;
}

// False: none can be taken now.
bool Connection::take_request() {
  if (leaving_ || alone_ || free_tasks_.empty() || !has_room(kReplyBytesMax)) return false;
  RawRequest raw;
  switch (decode(in_.bytes(), style_.extended, raw)) {
    case Decoded::part:
      if (at_end_) leaving_ = true;
      return false;
    case Decoded::broken:
      close();
      return false;
    case Decoded::whole:
      break;
  }
  const uint64_t payload = payload_bytes(raw, style_.extended);
  if (payload > kPayloadBytesMax) {
    close();
    return false;
  }
  in_.take(header_bytes(style_.extended));
  Request request;
  const Error error = validate(raw, facts_, agreement_, request);
  if (error != Error::none) {
    setup_.counters->rejected.add();
    skip_ = payload;
    put_result(raw.cookie, raw.offset, error);
    return true;
  }
  if (request.command == Command::disconnect) {
    leaving_ = said_goodbye_ = true;
    return false;
  }
  current_ = free_tasks_.back();
  free_tasks_.pop_back();
  *current_ = {.request = request};
  promised_ += kReplyBytesMax;
  return true;
}

// Whether so much has been received. If not it is waited for, unless it never comes.
bool Connection::read_ahead(uint64_t bytes) {
  if (in_.bytes().size() >= bytes) return true;
  wanted_ = bytes;
  if (at_end_) close();
  return false;
}

bool Connection::skip_payload() {
  const uint64_t now = std::min<uint64_t>(skip_, in_.bytes().size());
  in_.take(now);
  skip_ -= now;
  return skip_ == 0 || read_ahead(1);
}

// Begins the next part of it, or says that it can't now.
bool Connection::begin(Task& task) {
  // Where a part has failed the rest is of no use.
  if (task.error != Error::none) {
    if (task.request.command == Command::write) skip_ = task.request.length - task.begun;
    nothing_more(task);
    return true;
  }
  switch (task.request.command) {
    case Command::read:
      return begin_read(task);
    case Command::write:
      return begin_write(task);
    case Command::write_zeroes:
      return begin_zeroes(task);
    case Command::block_status:
      return begin_status(task);
    case Command::flush:
      return begin_whole(task, Kind::flush);
    case Command::trim:
      return begin_whole(task, Kind::discard);
    default:
      // Nothing is kept that could be filled beforehand.
      nothing_more(task);
      return true;
  }
}

// A simple answer is one piece: where it is long its parts come one after the other, and no other
// answer between them.
bool Connection::goes_alone(const Task& task) const {
  return !style_.structured && task.request.length > kPartBytesMax;
}

bool Connection::begin_read(Task& task) {
  const uint64_t left = task.request.length - task.begun;
  // In one piece, however long.
  if (style_.structured && task.request.one_chunk && left > kPartBytesMax) {
    task.error = Error::overflow;
    nothing_more(task);
    return true;
  }
  if (goes_alone(task)) {
    if (free_tasks_.size() + 1 != tasks_.size() || task.parts > 0) return false;
    alone_ = &task;
  }
  const uint64_t length = std::min<uint64_t>(left, kPartBytesMax);
  return begin_answered(task, Kind::read, length);
}

// What brings something for the client: begun only when that has room.
bool Connection::begin_answered(Task& task, Kind kind, uint64_t length) {
  const size_t promise = kind == Kind::map ? status_bytes() : kReplyBytesMax + length;
  if (!has_room(promise)) return false;
  Part* part = make_part(task, kind, length);
  if (!part) return false;
  part->promise = promise;
  promised_ += promise;
  hand_over(*part);
  return true;
}

bool Connection::begin_write(Task& task) {
  const uint64_t length = std::min<uint64_t>(task.request.length - task.begun, kPartBytesMax);
  if (!read_ahead(length)) return false;
  Part* part = make_part(task, Kind::write, length);
  if (!part) return false;
  part->payload = in_.bytes().data();
  part->fetched = false;
  in_.take(length);
  unfetched_++;
  hand_over(*part);
  return true;
}

// By the medium's own means where it has some.
bool Connection::begin_zeroes(Task& task) {
  const Request& request = task.request;
  if (request.fast_zero && request.no_hole) {
    task.error = Error::not_supported;
    nothing_more(task);
    return true;
  }
  const uint64_t left = request.length - task.begun;
  const uint64_t length = task.by_writing ? std::min<uint64_t>(left, kPartBytesMax) : left;
  Part* part = make_part(task, task.by_writing ? Kind::write : Kind::discard, length);
  if (!part) return false;
  part->payload = nullptr;
  if (!task.by_writing)
    part->valid.zeroes = request.fast_zero ? Zeroes::fast
                         : request.no_hole ? Zeroes::keep
                                           : Zeroes::may_free;
  hand_over(*part);
  return true;
}

bool Connection::begin_whole(Task& task, Kind kind) {
  Part* part = make_part(task, kind, task.request.length);
  if (!part) return false;
  hand_over(*part);
  return true;
}

// nullptr: all are with the engine.
Connection::Part* Connection::make_part(Task& task, Kind kind, uint64_t length) {
  Part* part = parts_->allocate();
  if (!part) return nullptr;
  part->task = &task;
  part->fetched = true;
  part->promise = 0;
  part->valid = {};
  part->valid.kind = kind;
  part->valid.sector = (task.request.offset + task.begun) / kSectorBytes;
  part->valid.sector_count = length / kSectorBytes;
  if (kind == Kind::read || kind == Kind::write)
    part->valid.pages = static_cast<uint16_t>((length + kPageBytes - 1) / kPageBytes);
  if (kind == Kind::map) {
    part->valid.pages = 1;
    part->valid.by_reading = detect_zeroes_;
  }
  task.begun += length;
  return part;
}

void Connection::hand_over(Part& part) {
  Task& task = *part.task;
  task.parts++;
  requests_->accept(part);
  if (task.begun == task.request.length && &task == current_) current_ = nullptr;
}

// No further part begins.
void Connection::nothing_more(Task& task) {
  task.begun = task.request.length;
  current_ = nullptr;
  end_if_over(task);
}

}  // namespace ringdisk::nbd
