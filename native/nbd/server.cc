// SPDX-License-Identifier: Apache-2.0
#include "nbd/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "base/peer_credentials.h"
#include "metrics/stats_page.h"

namespace ringdisk::nbd {
namespace {

// The socket's mode says so already, but its folder may be somebody else's.
bool is_welcome(const Fd& socket, const Group& group) {
  try {
    const uid_t uid = peer_credentials(socket.get()).uid;
    return uid == 0 || uid == ::geteuid() || (group && peer_is_in_group(socket.get(), *group));
  } catch (const std::system_error&) {
    return false;
  }
}

// In one wake-up for many small ones, and long data in few.
void widen(const Fd& socket) {
  constexpr int kBytes = 2 << 20;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kBytes, sizeof kBytes);
}

// Who has only looked at it has nothing to hand over.
bool has_changed(const QueueCounters& counters) {
  return counters.writes.get() + counters.discards.get() + counters.flushes.get() > 0;
}

std::shared_ptr<const Exports> exports_of(std::vector<Export> all) {
  auto made = std::make_shared<Exports>();
  made->all = std::move(all);
  for (const Export& one : made->all) made->facts.push_back(one.facts);
  return made;
}

}  // namespace

Server::Server(std::vector<Reactor*> reactors, std::string path, Group group)
    : reactors_(std::move(reactors)),
      path_(std::move(path)),
      group_(group),
      socket_(listen_on(path_, group_)) {}

void Server::begin() {
  reactors_.front()->post_always([self = shared_from_this()] {
    self->listener_ = std::make_unique<Listener>(
        self->reactors_.front()->uring(), self->socket_.get(),
        [server = self.get()](Fd socket) { server->let_in(std::move(socket)); },
        [self] { self->reactors_.front()->later([self] { self->stopped_listening(); }); });
  });
}

void Server::stopped_listening() {
  listener_.reset();
  {
    const std::lock_guard lock(mutex_);
    listening_ = false;
  }
  tell_who_waits();
}

// With the mutex held. Connections keep what they have found.
template <typename Change>
void Server::change(Change change) {
  std::vector<Export> all = exports_->all;
  change(all);
  exports_ = exports_of(std::move(all));
}

// With the mutex held.
template <typename Which>
void Server::drop_those(Which which) {
  for (const auto& [number, live] : live_)
    if (which(live))
      live.reactor->post_always(
          [self = shared_from_this(), number = number] { self->drop(number); });
}

void Server::add(Export added) {
  const std::lock_guard lock(mutex_);
  change([&](std::vector<Export>& all) { all.push_back(std::move(added)); });
}

void Server::remove(uint32_t id, std::function<void()> over) {
  {
    const std::lock_guard lock(mutex_);
    change([id](std::vector<Export>& all) {
      std::erase_if(all, [id](const Export& one) { return one.id == id; });
    });
    leaving_[id] = std::move(over);
    goodbyes_.erase(id);
    drop_those([id](const Live& live) { return live.id == id; });
  }
  tell_who_waits();
}

void Server::resize(uint32_t id, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  change([&](std::vector<Export>& all) {
    for (Export& one : all)
      if (one.id == id) one.facts.size = bytes;
  });
}

// With the mutex held.
template <typename Which>
void Server::tell_those(Which which, const std::function<void(RequestEngine&)>& what) {
  for (const auto& [number, live] : live_)
    if (which(live.id))
      live.reactor->post_always([self = shared_from_this(), number = number, what] {
        if (Connection* connection = self->find(number)) connection->tell(what);
      });
}

void Server::limit(uint32_t id, const std::shared_ptr<Limits>& limits) {
  const std::lock_guard lock(mutex_);
  change([&](std::vector<Export>& all) {
    for (Export& one : all)
      if (one.id == id) one.limits = limits;
  });
  tell_those([id](uint32_t its) { return its == id; },
             [limits](RequestEngine& requests) { requests.limit(limits); });
}

void Server::limits_changed(const Limits& limits) {
  const std::lock_guard lock(mutex_);
  const auto has_them = [&](uint32_t id) {
    return std::ranges::any_of(exports_->all, [&](const Export& one) {
      return one.id == id && one.limits && one.limits->is_of(limits);
    });
  };
  tell_those(has_them, [](RequestEngine& requests) { requests.limits_changed(); });
}

bool Server::has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(exports_->all,
                             [&](const Export& one) { return one.facts.name == name; });
}

void Server::stop(std::function<void()> over) {
  ::unlink(path_.c_str());
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    stopped_ = std::move(over);
    drop_those([](const Live&) { return true; });
  }
  ::shutdown(socket_.get(), SHUT_RDWR);
}

std::vector<std::shared_ptr<QueueCounters>> Server::counters(uint32_t id) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<QueueCounters>> found;
  for (const auto& [number, live] : live_)
    if (live.id == id) found.push_back(live.counters);
  return found;
}

uint64_t Server::goodbyes(uint32_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = goodbyes_.find(id);
  return found == goodbyes_.end() ? 0 : found->second.count;
}

// Who is not let in finds the connection closed.
void Server::let_in(Fd socket) {
  if (!is_welcome(socket, group_)) return;
  widen(socket);
  const std::lock_guard lock(mutex_);
  if (stopping_ || live_.size() >= kConnectionsMax) return;
  const uint64_t number = next_++;
  Reactor* reactor = reactors_[number % reactors_.size()];
  const auto shared = std::make_shared<Fd>(std::move(socket));
  const bool posted = reactor->post(
      [self = shared_from_this(), number, shared] { self->make(number, std::move(*shared)); });
  if (posted) live_[number] = {reactor, nullptr, 0, make_counters("")};
}

void Server::make(uint64_t number, Fd socket) {
  Connection* connection = nullptr;
  {
    const std::lock_guard lock(mutex_);
    Live& live = live_.at(number);
    const auto self = shared_from_this();
    Reactor* reactor = live.reactor;
    const auto delete_later = [self, reactor, number] {
      reactor->later([self, number] { self->gone(number); });
    };
    if (!stopping_) try {
        connection = new Connection(
            *reactor, std::move(socket),
            {.exports = exports_,
             .counters = live.counters,
             .agreed = [self, number](uint32_t id) { return self->agreed(number, id); },
             .gone = delete_later});
      } catch (const std::bad_alloc&) {
      }
    live.connection = connection;
  }
  if (!connection) gone(number);
}

// What is changed from now on the connection is told.
Connection::Agreed Server::agreed(uint64_t number, uint32_t id) {
  const std::lock_guard lock(mutex_);
  live_.at(number).id = id;
  const auto found =
      std::ranges::find_if(exports_->all, [id](const Export& one) { return one.id == id; });
  if (found == exports_->all.end()) return {};
  return {.is_there = true, .limits = found->limits};
}

// With the mutex held.
bool Server::is_exported(uint32_t id) const {
  return std::ranges::any_of(exports_->all, [id](const Export& one) { return one.id == id; });
}

// On its reactor, as the next: it is not deleted meanwhile.
void Server::drop(uint64_t number) {
  if (Connection* connection = find(number)) connection->drop();
}

Connection* Server::find(uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(number);
  return found == live_.end() ? nullptr : found->second.connection;
}

// With the mutex held. Who came later and ended in the middle of something has the last word: what
// others had finished is not what lies there now. One that came before was lost, and came again.
void Server::note_end(uint32_t id, uint64_t number, bool in_order) {
  Goodbyes& goodbyes = goodbyes_[id];
  if (in_order)
    goodbyes = {goodbyes.count + 1, std::max(goodbyes.latest, number)};
  else if (number > goodbyes.latest)
    goodbyes = {};
}

void Server::gone(uint64_t number) {
  std::unique_ptr<Connection> connection;
  {
    const std::lock_guard lock(mutex_);
    Live& live = live_.at(number);
    connection.reset(std::exchange(live.connection, nullptr));
    if (connection && has_changed(*live.counters) && is_exported(live.id))
      note_end(live.id, number, connection->said_goodbye());
  }
  // Its channel refers to the target, so it goes before anybody is told.
  connection.reset();
  {
    const std::lock_guard lock(mutex_);
    live_.erase(number);
  }
  tell_who_waits();
}

// What is called may delete this server's last owner but one.
void Server::tell_who_waits() {
  std::vector<std::function<void()>> told;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = leaving_.begin(); at != leaving_.end();) {
      const bool has = std::ranges::any_of(
          live_, [&](const auto& entry) { return entry.second.id == at->first; });
      if (has) {
        ++at;
        continue;
      }
      told.push_back(std::move(at->second));
      at = leaving_.erase(at);
    }
    if (stopping_ && !listening_ && live_.empty() && stopped_)
      told.push_back(std::exchange(stopped_, nullptr));
  }
  for (const auto& tell : told) tell();
}

}  // namespace ringdisk::nbd
