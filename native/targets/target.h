// SPDX-License-Identifier: Apache-2.0
// A target is the backing store of a VBD. `Target` is the control handle: opened, claimed, resized
// and closed off the data path. `TargetChannel` is the data handle: one per queue, used only on
// that queue's reactor. Filters (mirror, throttle, ...) will be channels that hold a channel.
//
// Nothing here ever waits for a medium. What may is done by the target's worker, another process
// (see workers.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/bitmap.h"
#include "base/chunk_locks.h"
#include "io/operation.h"
#include "medium/facts.h"

namespace ringdisk {

class Alarms;
class BounceShare;
class Lanes;
class Uring;
struct QueueCounters;

struct FillSpec;

struct TargetSpec {
  // "file", "block", "nvme", "nbd", "null", "fill", or "auto": whichever the path is
  std::string kind;
  std::string path;  // null: the capacity in bytes, decimal; nbd: see medium/nbd_link.h
  bool read_only = false;
  // Of a file: if it is not there it is made so large, durably; its first bytes come as facts.head.
  uint64_t create_bytes = 0;
  // nbd: what its server has answered is not lost with the server's process.
  bool keeps_nothing = false;
  std::shared_ptr<const FillSpec> fill{};  // kind fill only
};

// A disk that is filled from a read-only source while it is used.
struct FillSpec {
  TargetSpec local;
  TargetSpec source;
  std::string map_path;      // empty: beside a local file
  std::string live_dir;      // on tmpfs; empty: nothing outlives the process but what was saved
  uint32_t chunk_bytes = 0;  // of a new map
  // One that was filled before goes on without its source until that is there.
  bool late_source = false;
  uint64_t rate = 0;  // of the job, bytes a second; 0: as fast as it goes
};

// See medium/claim.h.
struct TargetClaim {
  bool share = false;      // others may write to it too
  bool take_over = false;  // a process that served it may have died a moment ago
};

// What a channel gets of its reactor and its queue. All of it outlives the channel.
struct ChannelContext {
  Uring& uring;
  Lanes& lanes;
  uint32_t depth;       // operations that are with it at a time, at most
  BounceShare& memory;  // the queue's, for what a channel needs besides
  Alarms& alarms;
  QueueCounters& counters;
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
  // The queue closes: discards that have not begun come back with -ECANCELED.
  virtual void cancel_discards() {}
  // What no operation uses at the moment goes back to the kernel, some of it at a time. False:
  // there is more.
  virtual bool give_memory_back() { return true; }
  virtual bool holds_memory() const { return false; }
  // Whoever is at the other end is not to take what follows for an end in order: not all that was
  // to be there is.
  virtual void break_off() {}
  // Its end, once nothing is with it any more. `done` is called on its reactor's thread, at once or
  // later, when nothing of its own is under way either; only then may it be deleted. One that has
  // never started anything may be deleted without.
  virtual void close(std::function<void()> done) { done(); }
};

// What became of something asked of a target: error 0, or an errno and a sentence.
struct TargetAnswer {
  int error = 0;
  std::string text{};     // claim: a warning, where there is one
  bool fenced = false;    // claim
  uint64_t capacity = 0;  // measure: bytes
  uint64_t direct_end = 0;
};

// A call that has not come back for a while.
struct TargetWait {
  std::string call;
  uint64_t since_us = 0;  // CLOCK_MONOTONIC: when the oldest of them began
  uint32_t count = 0;
  std::string why{};  // where it is known
};

class Target {
 public:
  // Called once, on any thread.
  using Answer = std::function<void(TargetAnswer)>;
  // The same, when a dead process's I/O is over; with a warning, where there is one.
  using Lifted = std::function<void(std::string)>;

  virtual ~Target() = default;
  const Capabilities& capabilities() const { return facts_.capabilities; }
  const MediumFacts& facts() const { return facts_; }
  // What measure() has found. The target's owner calls it where it reads `capacity`; no other field
  // changes once a target is open, so channels may read those on their own threads.
  virtual void resize(uint64_t capacity, uint64_t direct_end) {
    facts_.capabilities.capacity = capacity;
    direct_end_.store(direct_end, std::memory_order_relaxed);
  }
  // Its owner alone reads and writes them once it is open.
  void warn(const std::string& sentence);
  // Bytes that aligned I/O reaches: what lies behind is the worker's. Any thread.
  uint64_t direct_end() const { return direct_end_.load(std::memory_order_relaxed); }

  // Without a worker all of these are answered at once.
  // The medium's size as it is now.
  virtual void measure(Answer answer) {
    answer({.capacity = capabilities().capacity, .direct_end = direct_end()});
  }
  // Once, before anything is written. Where the answer says `fenced`, `lifted` follows.
  virtual void claim(const TargetClaim&, Answer answer, Lifted) { answer({}); }
  // No channel may be left. Answered when the medium is let go of.
  virtual void close(Answer answer) { answer({}); }
  virtual std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) = 0;
  // Called on any thread with what the operator should know of a target in use.
  using Warn = std::function<void(const std::string&)>;
  virtual void on_warning(Warn) {}
  // What has been waited for since before `before_us`.
  virtual std::vector<TargetWait> waits(uint64_t /*before_us*/) const { return {}; }
  // The process number of its worker; 0: none.
  virtual int worker() const { return 0; }

  // The bitmaps in which all that is written is marked; null: none. Any thread. Who has engines on
  // the target tells them (request/tracking.cc).
  void track(std::shared_ptr<const Bitmaps> bitmaps) {
    const std::lock_guard lock(mutex_);
    tracked_ = std::move(bitmaps);
  }
  std::shared_ptr<const Bitmaps> tracked() const {
    const std::lock_guard lock(mutex_);
    return tracked_;
  }

  // Who writes to it, in its blocks, where a smaller write rewrites a whole one: over all queues
  // and all who share it. Null where no write says less than it rewrites. Any thread.
  std::shared_ptr<ChunkLocks> block_locks();
  // It takes that one's place while there are requests: from now on they have the same.
  void succeed(Target& before);

  // Whether a dead predecessor's I/O may still be under way: nothing may be written until it is
  // not. Any thread.
  bool fenced() const { return fenced_->load(std::memory_order_acquire); }

 protected:
  MediumFacts facts_;
  // Who waits for it may outlive the target.
  const std::shared_ptr<std::atomic<bool>> fenced_ = std::make_shared<std::atomic<bool>>(false);

 private:
  std::atomic<uint64_t> direct_end_{UINT64_MAX};
  mutable std::mutex mutex_;  // never held on the way of a request
  std::shared_ptr<const Bitmaps> tracked_;
  std::shared_ptr<ChunkLocks> block_locks_;
};

}  // namespace ringdisk
