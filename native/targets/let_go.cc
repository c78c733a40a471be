// SPDX-License-Identifier: Apache-2.0
// How a medium is closed. Whoever does that last may have to wait for it, so it is never this
// process: what it has of a medium goes to a worker, whose end closes it.
#include <cerrno>
#include <system_error>
#include <utility>

#include "targets/workers.h"

namespace ringdisk {

void Workers::close(const Link& link, Target::Answer answer) {
  post([this, link, answer = std::move(answer)] {
    Record* record = find(link);
    if (!record) return answer({});
    record->on_closed = answer;
    take_all_back(*record);
    let_go(*record);
  });
}

void Workers::take_all_back(Record& record) {
  for (Fd* fd : {&record.link->io_, &record.exclusive})
    if (fd->valid()) record.leftovers.push_back(std::move(*fd));
}

// Where its worker is dead another process is started, only for that; if none can be had, later.
void Workers::let_go(Record& record) {
  if (record.pid == 0) {
    if (record.leftovers.empty()) return erase(record);
    record.revive_at_us = UINT64_MAX;
    try {
      start(record);
    } catch (const std::system_error&) {
      return could_not_revive(record);
    }
  }
  hand_leftovers_over(record);
  end_process(record);
}

// What lies unread in a process's socket is closed by its end. One that is dead takes nothing: then
// its end is heard of, and the next one is asked.
void Workers::hand_leftovers_over(Record& record) {
  WorkerRequest request;
  request.type = WorkerRequest::Type::close;
  while (!record.leftovers.empty() && record.socket.valid()) {
    const int fd = record.leftovers.back().get();
    const int error = send_message(record.socket.get(), bytes_of(request), std::span(&fd, 1));
    // It is alive and has not read what it was sent before: it has the medium, too.
    if (error != 0 && error != -EAGAIN) return;
    record.leftovers.pop_back();
  }
}

void Workers::keep_leftovers(Record& record, std::vector<Fd>& fds) {
  for (Fd& fd : fds) record.leftovers.push_back(std::move(fd));
  fds.clear();
}

// Of one that has ended or is going to: nobody asks any more for what it has sent.
void Workers::drain(Record& record) {
  while (record.socket.valid()) {
    WorkerReply reply;
    std::vector<Fd> fds;
    const int received = receive_message(record.socket.get(), room_in(reply), fds);
    keep_leftovers(record, fds);
    // It is told once, before what was sent, that the other end had not read everything.
    if (received <= 0 && received != -ECONNRESET) return;
  }
}

// Kept to the end of the round: what epoll has told of it may still be looked at.
void Workers::erase(Record& record) {
  const Target::Answer on_closed = std::exchange(record.on_closed, nullptr);
  const auto found = records_.find(record.link.get());
  if (found != records_.end()) {
    unwatch(record.socket);
    unwatch(record.ended);
    dead_.push_back(std::move(found->second));
    records_.erase(found);
  }
  if (on_closed) on_closed({});
}

}  // namespace ringdisk
