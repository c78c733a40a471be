// SPDX-License-Identifier: Apache-2.0
#include "nbd/socket.h"

#include <sys/socket.h>

namespace ringdisk::nbd {

Socket::Socket(Uring& uring, Fd fd, OperationSink& sink) : uring_(uring), fd_(std::move(fd)) {
  for (Operation* operation : {&receive_, &send_}) {
    operation->channel = &completions_;
    operation->sink = &sink;
    operation->waits_for_client = true;
  }
}

void Socket::receive(std::span<std::byte> room, bool whole) {
  receiving_ = true;
  io_uring_prep_recv(uring_.reserve_for(receive_), fd_.get(), room.data(), room.size(),
                     whole ? MSG_WAITALL : 0);
}

void Socket::send(std::span<std::byte> bytes) {
  sending_ = true;
  io_uring_prep_send(uring_.reserve_for(send_), fd_.get(), bytes.data(), bytes.size(),
                     MSG_NOSIGNAL | MSG_WAITALL);
}

void Socket::shut_down() { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace ringdisk::nbd
