// SPDX-License-Identifier: Apache-2.0
// The socket of one NBD connection: requests go out many at a time, with their data from where it
// lies; what comes in is looked at in a buffer, and long data goes straight to where it belongs.
// One submission each way is under way at most.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/fd.h"
#include "io/operation.h"
#include "io/uring.h"
#include "protocol/nbd_wire.h"

namespace ringdisk {

class NbdStream {
 public:
  // Completions of the two operations come to `owner`.
  NbdStream(Uring& uring, TargetChannel& owner);
  ~NbdStream();  // nothing may be under way

  void open(Fd socket);
  // What is under way comes back; nothing more is begun.
  void shut_down();
  bool is_under_way() const { return sends_ || receives_; }
  // When nothing is.
  void close();
  // At once or not at all: a last word.
  void say(std::span<const std::byte> bytes) const;

  bool is_receive(const Operation& operation) const { return &operation == &receiving_; }

  bool has_room() const;
  // With has_room(). The data must stay until the request is answered.
  std::byte* add(std::span<const std::byte> data);
  void send();
  // What came of it; false: the connection is over.
  bool sent(int32_t result);

  std::span<const std::byte> bytes() const { return {buffer_.get() + begin_, end_ - begin_}; }
  void take(size_t count) { begin_ += count; }
  // The next bytes belong there. False: some of them are still to come.
  bool put(std::byte* to, size_t count);
  void receive();
  // As sent().
  bool received(int32_t result);
  // Whether some data that was put somewhere is still to come.
  bool lacks_data() const { return lacking_ > 0; }

 private:
  static constexpr size_t kRequestsMax = 32;
  static constexpr size_t kBufferBytes = 64u << 10;
  // So much is waited for as a whole.
  static constexpr size_t kWholeMin = 16u << 10;

  Uring& uring_;
  Fd socket_;
  bool open_ = false;

  Operation sending_{};
  bool sends_ = false;
  uint64_t place_ = 0;  // of the submission
  std::array<std::array<std::byte, nbd::kRequestBytes>, kRequestsMax> headers_;
  uint32_t requests_ = 0;
  std::array<iovec, 2 * kRequestsMax> pieces_;
  uint32_t first_piece_ = 0;
  uint32_t pieces_end_ = 0;
  msghdr message_{};

  Operation receiving_{};
  bool receives_ = false;
  std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::byte* lacking_to_ = nullptr;
  size_t lacking_ = 0;
  std::array<iovec, 2> rooms_;
  msghdr into_{};
};

}  // namespace ringdisk
