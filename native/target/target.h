// SPDX-License-Identifier: Apache-2.0
// A target is the backing store of a VBD. `Target` is the control handle: opened, probed, resized
// and closed off the data path. `TargetChannel` is the data handle: one per queue, used only on
// that queue's reactor. Filters (mirror, throttle, ...) will be channels that hold a channel.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "io/operation.h"
#include "target/fence.h"

namespace ringdisk {

class Uring;
class Offload;

// Probed when the target is opened. All sizes in bytes.
struct Capabilities {
  uint64_t capacity = 0;          // multiple of 512
  uint32_t io_alignment = 512;    // 512 or 4096: offsets and lengths must be multiples of it
  uint32_t physical_block = 512;  // told to the guest as physical-sector-size
  bool read_only = false;
  bool direct = false;  // the page cache is bypassed
  bool discard = false;
  bool secure_discard = false;
  uint32_t discard_granularity = 0;
  uint32_t discard_alignment = 0;
  bool rotational = false;
};

struct TargetSpec {
  std::string kind;  // "file", "block", "nvme", "null"
  std::string path;  // null: the capacity in bytes, decimal
  bool read_only = false;
  // A process that served it may have died a moment ago: see fence.h.
  bool take_over = false;
};

class TargetChannel {
 public:
  virtual ~TargetChannel() = default;
  // Starts a validated operation: inside the capacity, aligned as Capabilities asks. Never blocks.
  // Returns true when it is already finished (operation.result is set), false when completions
  // will follow through advance().
  virtual bool start(Operation& operation) = 0;
  // One part came back with `part_result` (bytes or 0, or -errno). Starts the next part and returns
  // false, or sets operation.result and returns true. Short transfers go on where they stopped.
  virtual bool advance(Operation& operation, int32_t part_result) = 0;
};

class Target {
 public:
  virtual ~Target() = default;
  const Capabilities& capabilities() const { return capabilities_; }
  // The medium's size as it is now, in bytes: what `capacity` should be. May block; any thread, as
  // it changes nothing. Throws std::system_error.
  virtual uint64_t measure() const = 0;
  // Takes over what measure() has found. The target's owner calls it where it reads `capacity`; no
  // other field changes once a target is open, so channels may read those on their own threads.
  void set_capacity(uint64_t bytes) { capabilities_.capacity = bytes; }
  // `uring` and `offload` are the reactor's and outlive the channel.
  virtual std::unique_ptr<TargetChannel> open_channel(Uring& uring, Offload& offload) = 0;

  // Whether a dead predecessor's I/O may still be under way: nothing may be written until it is
  // not. Any thread.
  bool fenced() const { return fence_ && fence_->pending(); }
  // Blocks until it is over, for as long as that takes; throws std::system_error.
  void wait_for_fence() {
    if (fence_) fence_->wait();
  }

 protected:
  Capabilities capabilities_;
  std::unique_ptr<Fence> fence_;
};

// Opens by kind. Throws std::system_error or std::invalid_argument whose message is a sentence for
// the operator. May block: never call it on a reactor.
std::unique_ptr<Target> open_target(const TargetSpec& spec);

}  // namespace ringdisk
