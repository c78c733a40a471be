// SPDX-License-Identifier: Apache-2.0
// What the channels of one NBD target have in common: its worker, what its server can, what may be
// lost with it, and what is waited for. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "targets/target.h"
#include "targets/workers.h"

namespace ringdisk {

// What a channel waits for, as others see it. Written on its reactor's thread.
struct NbdWaiting {
  std::atomic<uint32_t> operations{0};
  std::atomic<uint64_t> since_us{0};  // when the server said something last, or nothing was asked
  std::atomic<bool> has_connection{false};
  // Why none can be had, since when: what is asked fails. The server's mutex guards them.
  std::string why{};
  uint64_t without_since_us = 0;
};

class NbdServer {
 public:
  NbdServer(Workers& workers, Workers::Link link, const TargetSpec& spec, const MediumFacts& facts)
      : workers_(workers),
        link_(std::move(link)),
        path_(spec.path),
        keeps_nothing_(spec.keeps_nothing),
        facts_(facts) {}

  const MediumFacts& facts() const { return facts_; }
  void connect(Workers::Wish wish) { workers_.connect(link_, std::move(wish)); }
  void forget(uint32_t id) { workers_.forget(link_, id); }

  // Throws std::system_error where its server lets nobody have another connection.
  void enter(NbdWaiting& channel);
  void leave(NbdWaiting& channel);
  std::vector<TargetWait> waits(uint64_t before_us) const;

  // A change was answered, and a flush is about to cover it. Of one that failed the first is said
  // again.
  void changed() {
    if (!unflushed_.load(std::memory_order_relaxed))
      unflushed_.store(true, std::memory_order_relaxed);
  }
  void flushing() { unflushed_.store(false, std::memory_order_relaxed); }
  // A channel has a connection again, or for the first time: of this server process.
  void connected(NbdWaiting& channel, uint64_t server);
  // None can be had for now.
  void unreachable(NbdWaiting& channel, const std::string& why);
  // Told of what the operator should know.
  void on_warning(Target::Warn tell);

 private:
  Workers& workers_;
  const Workers::Link link_;
  const std::string path_;
  const bool keeps_nothing_;
  const MediumFacts facts_;
  std::atomic<bool> unflushed_{false};
  mutable std::mutex mutex_;  // guards what follows
  std::vector<NbdWaiting*> channels_;
  uint64_t server_ = 0;
  Target::Warn tell_;
};

}  // namespace ringdisk
