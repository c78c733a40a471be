// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "engine/fill_target.h"
#include "targets/workers.h"

namespace ringdisk {

// A fill is opened step by step: the disk, its map, and the source where it is needed still. What
// is full is no fill any more: its disk is opened, and nothing else.
class FillOpen : public std::enable_shared_from_this<FillOpen> {
 public:
  using Done = Workers::OnOpened;
  using Cancel = std::function<void()>;
  // Opens any target; called on any thread, as `done` is.
  using Open = std::function<Cancel(const TargetSpec& spec, Done done)>;

  FillOpen(TargetSpec spec, Open open, Reactor& reactor, Done done);

  void begin();
  // Any thread. It is answered with ECANCELED, if it has not been.
  void cancel();

 private:
  using Then = void (FillOpen::*)(Workers::Opened);
  void next(const TargetSpec& spec, Then then);
  void local_is_open(Workers::Opened opened);
  void map_is_open(Workers::Opened opened);
  void source_is_open(Workers::Opened opened);
  std::string wrong_map(const FillHeader& found) const;
  std::string wrong_source(const Target& source, const FillHeader& found) const;
  void finish();
  void fail(int error, const std::string& text);

  const TargetSpec spec_;
  const FillSpec& fill_;
  const Open open_;
  Reactor& reactor_;
  const Done done_;
  std::unique_ptr<Target> local_;
  FillTarget::Parts parts_;  // the others
  FillHead head_ = FillHead::fresh;
  std::mutex mutex_;  // guards the rest
  bool is_cancelled_ = false;
  uint32_t step_ = 0;  // what cancel_ is of
  Cancel cancel_;
};

}  // namespace ringdisk
