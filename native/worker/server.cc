// SPDX-License-Identifier: Apache-2.0
#include "worker/server.h"

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace ringdisk {
namespace {

WorkerReply failure(int error, const char* text) {
  WorkerReply reply;
  reply.type = WorkerReply::Type::failed;
  reply.error = error;
  put_text(reply.text, text);
  return reply;
}

}  // namespace

bool Server::run() {
  for (;;) {
    WorkerRequest request;
    std::vector<Fd> fds;
    const int received = receive_message(socket_, room_in(request), fds);
    if (received != static_cast<int>(sizeof request)) return received <= 0;
    request.kind.back() = request.path.back() = '\0';
    WorkerReply failed;
    try {
      handle(request, fds);
      continue;
    } catch (const std::system_error& error) {
      failed = failure(error.code().value(), error.what());
    } catch (const std::exception& error) {
      failed = failure(EINVAL, error.what());
    }
    failed.number = request.number;
    reply(failed);
  }
}

void Server::handle(const WorkerRequest& request, std::vector<Fd>& fds) {
  if (request.type == WorkerRequest::Type::open) return open(request, fds);
  if (request.type == WorkerRequest::Type::close) return fds.clear();  // the daemon's, maybe last
  if (!medium_) throw std::invalid_argument("nothing is open");
  switch (request.type) {
    case WorkerRequest::Type::open:
    case WorkerRequest::Type::close:
      return;
    case WorkerRequest::Type::claim:
      return claim(request, fds);
    case WorkerRequest::Type::measure:
      return measure(request);
    case WorkerRequest::Type::add_lane:
      return add_lane(request, fds);
    case WorkerRequest::Type::remove_lane:
      return executor_->remove_lane(request.lane);
    case WorkerRequest::Type::connect:
      return connect(request);
    case WorkerRequest::Type::forget:
      if (connector_) connector_->forget(request.lane);
      return;
  }
}

void Server::open(const WorkerRequest& request, std::vector<Fd>& fds) {
  if (medium_) throw std::invalid_argument("it is open already");
  const MediumSpec spec{request.kind.data(), request.path.data(), request.read_only,
                        request.create_bytes};
  const bool is_nbd = request.facts.kind == MediumKind::nbd;
  if (request.adopt && (is_nbd || fds.size() == 1))
    medium_ = adopt_medium(spec, request.facts, is_nbd ? Fd() : std::move(fds[0]));
  else
    medium_ = open_medium(spec);
  executor_ = std::make_unique<Executor>(*medium_, page_);
  WorkerReply opened;
  opened.type = WorkerReply::Type::opened;
  opened.number = request.number;
  opened.facts = medium_->facts();
  const Medium::Size size = request.adopt ? Medium::Size{} : medium_->measure();
  opened.capacity = size.capacity;
  opened.direct_end = size.direct_end;
  const int fd = medium_->fd();
  reply(opened, daemon_has_io() ? std::span(&fd, 1) : std::span<const int>());
}

bool Server::daemon_has_io() const {
  return medium_->facts().reads_without_waiting || medium_->facts().writes_without_waiting;
}

// The reactors write on while this process is dead and another one begins.
void Server::reply_with_claim(const WorkerReply& claimed) const {
  const int exclusive = medium_->claimed().exclusive();
  const bool keeps = daemon_has_io() && !claimed.fenced && exclusive >= 0;
  reply(claimed, keeps ? std::span(&exclusive, 1) : std::span<const int>());
}

void Server::claim(const WorkerRequest& request, std::vector<Fd>& fds) {
  if (!fds.empty()) medium_->claimed().adopt(std::move(fds[0]));
  medium_->claim({request.share, request.take_over});
  WorkerReply claimed;
  claimed.type = WorkerReply::Type::claimed;
  claimed.number = request.number;
  claimed.fenced = medium_->claimed().pending();
  put_text(claimed.text, medium_->claimed().warning());
  reply_with_claim(claimed);
  if (!claimed.fenced) return;
  std::thread([this] {
    WorkerReply told;
    told.type = WorkerReply::Type::fence_lifted;
    for (;;) {
      try {
        medium_->claimed().wait();
        break;
      } catch (const std::system_error& error) {
        // Such as a lock server that is away: writes wait until it is back.
        WorkerReply warned;
        warned.type = WorkerReply::Type::warned;
        put_text(warned.text, error.what());
        reply(warned);
        std::this_thread::sleep_for(std::chrono::seconds(1));
      }
    }
    put_text(told.text, medium_->claimed().warning());
    reply_with_claim(told);
  }).detach();
}

void Server::measure(const WorkerRequest& request) {
  const Medium::Size size = medium_->measure();
  WorkerReply measured;
  measured.type = WorkerReply::Type::measured;
  measured.number = request.number;
  measured.capacity = size.capacity;
  measured.direct_end = size.direct_end;
  reply(measured);
}

void Server::add_lane(const WorkerRequest& request, std::vector<Fd>& fds) {
  if (fds.size() != 2) throw std::invalid_argument("a lane has two descriptors");
  executor_->add_lane(request.lane, fds[0], std::move(fds[1]));
}

void Server::connect(const WorkerRequest& request) {
  if (!connector_)
    connector_ = std::make_unique<Connector>(
        *medium_, [this](const WorkerReply& told, std::span<const int> fds) { reply(told, fds); });
  connector_->add({request.lane, request.ended, request.failures});
}

void Server::reply(const WorkerReply& reply, std::span<const int> fds) const {
  send_message(socket_, bytes_of(reply), fds);
}

}  // namespace ringdisk
