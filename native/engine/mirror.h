// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "channels/filter.h"
#include "channels/mirror_home.h"
#include "channels/mirror_state.h"
#include "engine/home_place.h"
#include "reactor/reactor.h"
#include "targets/target.h"

namespace ringdisk {

// What an operator may change of it.
struct MirrorWish {
  bool sync = false;
  bool paused = false;
  uint64_t rate = 0;  // bytes a second; 0: as fast as it goes
};

struct MirrorSetup {
  std::string map_path;
  bool is_new = false;  // nothing has been copied, whatever the map says
  MirrorWish wish{};
};

// What can be looked at.
struct MirrorStatus {
  uint64_t bytes = 0;
  uint64_t behind_bytes = 0;
  uint64_t copied_bytes = 0;
  uint64_t speed = 0;
  uint64_t source_errors = 0;
  bool sync = false;
  bool ready = false;
  bool has_destination = false;
  bool swept = false;  // every chunk was looked at once
  int error = 0;       // over, for this reason
};

// A target's mirror: its home on a reactor, and what it holds. Its owner's thread makes all calls.
class Mirror : public std::enable_shared_from_this<Mirror> {
 public:
  // `changed` is called on the reactor's thread. Throws std::system_error where the map is not
  // sound, ESTALE where it says that its mirror has failed.
  Mirror(Reactor& reactor, std::shared_ptr<Target> source, const MirrorSetup& setup,
         std::function<void()> changed);

  using Answer = Target::Answer;
  void make(Answer answer);
  void give(std::shared_ptr<Target> destination, Answer answer);
  void set(const MirrorWish& wish);
  void end(int error);
  // No filter may be left. Answered when the source is let go of; `gone` when the destination is.
  void close(Answer answer, std::function<void()> gone);
  void let_source_go() { source_.reset(); }

  // For a queue of whoever uses the source; once it has been made.
  FilterMaker filter();
  MirrorStatus status() const;
  bool uses(const Target& target) const {
    return source_.get() == &target || destination_.get() == &target;
  }
  const std::shared_ptr<Target>& source() const { return source_; }
  const std::shared_ptr<Target>& destination() const { return destination_; }

 private:
  void tell_home(std::function<void(MirrorHome&)> what);

  Reactor& reactor_;
  std::shared_ptr<Target> source_;
  std::shared_ptr<Target> destination_;
  const std::function<void()> changed_;
  MirrorState state_;
  // On the reactor's thread.
  std::unique_ptr<HomePlace> place_;
  std::unique_ptr<MirrorHome> home_;
};

}  // namespace ringdisk
