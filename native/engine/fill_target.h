// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "channels/fill_map.h"
#include "targets/target.h"
#include "targets/workers.h"

namespace ringdisk {

class FillCore;
class Reactor;

// How a source is opened that may be away.
struct FillSource {
  using Cancel = std::function<void()>;
  std::function<Cancel(Workers::OnOpened)> open{};
  // Why it is not the one that is meant; empty: it is.
  std::function<std::string(const Target&)> wrong{};
};

// What can be looked at of a fill.
struct FillStatus {
  uint64_t chunk_bytes = 0;
  uint64_t chunks = 0;
  uint64_t here = 0;
  uint64_t unsaved = 0;  // of these, not yet known as here on the map's medium
  uint64_t fetched_bytes = 0;
  uint64_t errors = 0;
  int failing = 0;  // the errno that the job met last
  uint64_t rate = 0;
  bool paused = false;
  bool full = false;
};

// A disk that is filled from a source while it is used. It is a local target that is written, a
// source that is read, and a map of what is here; see channels/fill_home.h.
class FillTarget final : public Target {
 public:
  struct Parts {
    std::shared_ptr<Target> local;
    std::shared_ptr<Target> source;  // null: it comes later
    FillSource late_source{};        // then
    std::shared_ptr<Target> map;
    FillHeader header{};  // what the map says, or shall say
    std::string map_path;
  };
  FillTarget(Reactor& reactor, const FillSpec& spec, Parts parts);
  ~FillTarget() override;

  // All on its owner's thread.
  void resize(uint64_t capacity, uint64_t direct_end) override;
  void measure(Answer answer) override;
  void claim(const TargetClaim& claim, Answer answer, Lifted lifted) override;
  void close(Answer answer) override;
  std::vector<TargetWait> waits(uint64_t before_us) const override;
  int worker() const override;
  // On the reactor's of the queue.
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override;

  FillStatus status() const;
  // Nothing where it is not claimed, or full.
  void set(uint64_t rate, bool paused);

 private:
  const std::shared_ptr<FillCore> core_;
};

}  // namespace ringdisk
