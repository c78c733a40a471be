// SPDX-License-Identifier: Apache-2.0
#include "targets/nbd_stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "protocol/nbd_replies.h"

namespace ringdisk {
namespace {

bool comes_again(int32_t result) { return result == -EINTR || result == -EAGAIN; }

}  // namespace

NbdStream::NbdStream(Uring& uring, TargetChannel& owner)
    : uring_(uring), buffer_(new std::byte[kBufferBytes]) {
  for (Operation* operation : {&sending_, &receiving_}) {
    operation->channel = &owner;
    operation->waits_for_client = true;  // what it waits for is counted by who asked for it
  }
}

NbdStream::~NbdStream() { RD_ASSERT(!is_under_way()); }

void NbdStream::open(Fd socket) {
  RD_ASSERT(!is_under_way());
  socket_ = std::move(socket);
  open_ = true;
  requests_ = first_piece_ = pieces_end_ = 0;
  begin_ = end_ = lacking_ = 0;
}

void NbdStream::shut_down() {
  if (!std::exchange(open_, false)) return;
  ::shutdown(socket_.get(), SHUT_RDWR);
}

void NbdStream::close() { socket_.reset(); }

void NbdStream::say(std::span<const std::byte> bytes) const {
  [[maybe_unused]] const ssize_t said =
      ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

// What was reserved and not taken by the kernel yet may still grow: all requests of a round go
// together.
bool NbdStream::has_room() const {
  if (!open_ || requests_ == kRequestsMax) return false;
  return !sends_ || !uring_.has_taken(place_);
}

std::byte* NbdStream::add(std::span<const std::byte> data) {
  auto& header = headers_[requests_++];
  pieces_[pieces_end_++] = {header.data(), header.size()};
  if (!data.empty()) pieces_[pieces_end_++] = {const_cast<std::byte*>(data.data()), data.size()};
  if (sends_) message_.msg_iovlen = pieces_end_ - first_piece_;
  return header.data();
}

void NbdStream::send() {
  if (!open_ || sends_ || first_piece_ == pieces_end_) return;
  sends_ = true;
  message_.msg_iov = &pieces_[first_piece_];
  message_.msg_iovlen = pieces_end_ - first_piece_;
  place_ = uring_.next_place();
  io_uring_sqe* sqe = uring_.reserve_for(sending_);
  io_uring_prep_sendmsg(sqe, socket_.get(), &message_, MSG_NOSIGNAL | MSG_WAITALL);
}

bool NbdStream::sent(int32_t result) {
  sends_ = false;
  if (comes_again(result)) result = 0;
  if (result < 0) return false;
  auto left = static_cast<size_t>(result);
  while (first_piece_ < pieces_end_) {
    iovec& piece = pieces_[first_piece_];
    const size_t now = std::min(left, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + now;
    piece.iov_len -= now;
    left -= now;
    if (piece.iov_len > 0) break;
    first_piece_++;
  }
  if (first_piece_ == pieces_end_) requests_ = first_piece_ = pieces_end_ = 0;
  return open_;
}

bool NbdStream::put(std::byte* to, size_t count) {
  const size_t here = std::min(count, end_ - begin_);
  std::memcpy(to, buffer_.get() + begin_, here);
  begin_ += here;
  lacking_to_ = to + here;
  lacking_ = count - here;
  return lacking_ == 0;
}

void NbdStream::receive() {
  if (!open_ || receives_) return;
  receives_ = true;
  const size_t kept = end_ - begin_;
  // There is always room for a whole header.
  if (kept == 0 || kBufferBytes - end_ < nbd::Replies::kHeaderBytesMax) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
    begin_ = 0;
    end_ = kept;
  }
  const bool whole = lacking_ >= kWholeMin;
  into_ = {};
  into_.msg_iov = rooms_.data();
  if (lacking_ > 0) rooms_[into_.msg_iovlen++] = {lacking_to_, lacking_};
  if (!whole) rooms_[into_.msg_iovlen++] = {buffer_.get() + end_, kBufferBytes - end_};
  io_uring_sqe* sqe = uring_.reserve_for(receiving_);
  io_uring_prep_recvmsg(sqe, socket_.get(), &into_, whole ? MSG_WAITALL : 0);
}

bool NbdStream::received(int32_t result) {
  receives_ = false;
  if (comes_again(result)) return open_;
  if (result <= 0) return false;
  auto bytes = static_cast<size_t>(result);
  const size_t of_data = std::min(bytes, lacking_);
  lacking_ -= of_data;
  lacking_to_ += of_data;
  end_ += bytes - of_data;
  return open_;
}

}  // namespace ringdisk
