// SPDX-License-Identifier: Apache-2.0
// What is exported by NBD, as the engine's owner sees it. Called by that one thread; `told` is
// called on any.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "metrics/counters.h"
#include "nbd/server.h"
#include "reactor/reactor.h"
#include "targets/target.h"

namespace ringdisk {

struct ExportedBitmap {
  std::string name{};  // as clients ask for it
  std::string path{};  // its file
};

struct ExportRequest {
  uint32_t target = 0;
  std::string path{};         // of the UNIX socket; several exports may share one
  std::string name{};         // by which clients ask for it
  std::string description{};  // what a list of exports says of it
  bool read_only = false;
  std::vector<ExportedBitmap> bitmaps{};
  bool detect_zeroes = false;    // by reading, where the medium does not tell
  std::optional<gid_t> group{};  // the socket's; its members are let in
  std::string limits{};          // the name of a set that all its clients share; empty: none
};

class ExportTable {
 public:
  explicit ExportTable(std::vector<Reactor*> reactors) : reactors_(std::move(reactors)) {}

  // Throws std::system_error or std::invalid_argument with a sentence.
  void add(uint32_t handle, const ExportRequest& request, std::shared_ptr<Target> target,
           std::shared_ptr<Limits> limits);
  // False: there is none. `told` when no connection has it any more.
  bool remove(uint32_t handle, std::function<void()> told);
  bool empty() const { return exports_.empty() && ending_ == 0; }
  bool uses(const Target& target) const;
  // From now on; null: none. Throws std::invalid_argument.
  void limit(uint32_t handle, const std::shared_ptr<Limits>& limits);
  // Their rates are others now.
  void limits_changed(const Limits& limits);
  // Its size is another one.
  void resized(const Target& target);
  // Of its connections; throws std::invalid_argument.
  std::vector<std::shared_ptr<QueueCounters>> counters(uint32_t handle) const;
  uint64_t goodbyes(uint32_t handle) const;
  // What remove() began for it is over.
  void removed() { ending_--; }

 private:
  struct Entry {
    std::shared_ptr<nbd::Server> server;
    std::shared_ptr<Target> target;
  };

  const std::vector<Reactor*> reactors_;
  std::unordered_map<std::string, std::shared_ptr<nbd::Server>> servers_;  // by path
  std::unordered_map<uint32_t, Entry> exports_;
  uint32_t ending_ = 0;
};

}  // namespace ringdisk
