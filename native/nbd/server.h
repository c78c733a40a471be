// SPDX-License-Identifier: Apache-2.0
// One socket: who listens there, what is exported on it, and the connections. Made and told by the
// engine's owner; its connections live on the reactors.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "metrics/counters.h"
#include "nbd/connection.h"
#include "nbd/export.h"
#include "nbd/listener.h"
#include "reactor/reactor.h"

namespace ringdisk::nbd {

// Connections of one socket at a time. Each may use kInBytes + kOutBytes of memory.
inline constexpr size_t kConnectionsMax = 32;

class Server final : public std::enable_shared_from_this<Server> {
 public:
  // Throws std::system_error. Nobody is let in before begin().
  Server(std::vector<Reactor*> reactors, std::string path, Group group = std::nullopt);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void begin();
  void add(Export added);
  // `over` is called once, on any thread, when no connection has it any more.
  void remove(uint32_t id, std::function<void()> over);
  bool has(const std::string& name) const;
  // Told to clients that come from now on; those that are there cannot be told.
  void resize(uint32_t id, uint64_t bytes);
  // Also for those that are there; null: none.
  void limit(uint32_t id, const std::shared_ptr<Limits>& limits);
  // Their rates are others now.
  void limits_changed(const Limits& limits);
  // Lets nobody in any more, removes the socket and ends all connections.
  void stop(std::function<void()> over);

  const std::string& path() const { return path_; }
  const Group& group() const { return group_; }
  // Of the connections to one export that are there now.
  std::vector<std::shared_ptr<QueueCounters>> counters(uint32_t id) const;
  // Connections to it that clients which wrote or flushed have ended in order, since one that came
  // later ended otherwise.
  uint64_t goodbyes(uint32_t id) const;

 private:
  struct Live {
    Reactor* reactor = nullptr;
    Connection* connection = nullptr;  // its reactor's; null: not made yet
    uint32_t id = 0;                   // of the export; 0: none agreed on
    std::shared_ptr<QueueCounters> counters;
  };

  struct Goodbyes {
    uint64_t count = 0;
    uint64_t latest = 0;  // which connection it was
  };

  template <typename Change>
  void change(Change change);
  template <typename Which>
  void drop_those(Which which);
  void stopped_listening();
  void let_in(Fd socket);
  void make(uint64_t number, Fd socket);
  bool is_exported(uint32_t id) const;
  Connection::Agreed agreed(uint64_t number, uint32_t id);
  template <typename Which>
  void tell_those(Which which, const std::function<void(RequestEngine&)>& what);
  void drop(uint64_t number);
  Connection* find(uint64_t number);
  void note_end(uint32_t id, uint64_t number, bool in_order);
  void gone(uint64_t number);
  void tell_who_waits();

  const std::vector<Reactor*> reactors_;
  const std::string path_;
  const Group group_;
  const Fd socket_;
  std::unique_ptr<Listener> listener_;  // the first reactor's

  mutable std::mutex mutex_;  // the rest; held for moments only
  std::shared_ptr<const Exports> exports_ = std::make_shared<Exports>();
  std::unordered_map<uint64_t, Live> live_;
  uint64_t next_ = 1;
  bool stopping_ = false;
  bool listening_ = true;
  std::unordered_map<uint32_t, std::function<void()>> leaving_;  // by export
  std::unordered_map<uint32_t, Goodbyes> goodbyes_;              // likewise
  std::function<void()> stopped_;
};

}  // namespace ringdisk::nbd
