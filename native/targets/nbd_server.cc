// SPDX-License-Identifier: Apache-2.0
#include "targets/nbd_server.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/clock.h"

namespace ringdisk {

void NbdServer::enter(NbdWaiting& channel) {
  const std::lock_guard lock(mutex_);
  if (facts_.capabilities.one_channel && !channels_.empty())
    throw std::system_error(EBUSY, std::generic_category(),
                            "cannot use " + path_ +
                                " twice at a time: its NBD server does not say that a flush covers "
                                "what went over another connection (multi-conn)");
  channels_.push_back(&channel);
}

void NbdServer::leave(NbdWaiting& channel) {
  const std::lock_guard lock(mutex_);
  std::erase(channels_, &channel);
}

std::vector<TargetWait> NbdServer::waits(uint64_t before_us) const {
  TargetWait answers{.call = "NBD request"};
  TargetWait connections{.call = "NBD connection"};
  const std::lock_guard lock(mutex_);
  for (const NbdWaiting* channel : channels_) {
    const uint32_t operations = channel->operations.load(std::memory_order_relaxed);
    const uint64_t since = channel->since_us.load(std::memory_order_relaxed);
    if (!channel->why.empty()) {
      if (channel->without_since_us > before_us) continue;
      connections.why = channel->why;
      connections.since_us = channel->without_since_us;
      connections.count++;
      continue;
    }
    if (operations == 0 || since > before_us) continue;
    const bool has_one = channel->has_connection.load(std::memory_order_relaxed);
    TargetWait& wait = has_one ? answers : connections;
    wait.since_us = wait.count == 0 ? since : std::min(wait.since_us, since);
    wait.count += operations;
  }
  std::vector<TargetWait> all;
  for (const TargetWait& wait : {answers, connections})
    if (wait.count > 0) all.push_back(wait);
  return all;
}

// The guest was told that its writes are done; what a server kept of them in its own memory went
// with it. No answer that a disk may give says so.
void NbdServer::connected(NbdWaiting& channel, uint64_t server) {
  const std::lock_guard lock(mutex_);
  channel.why.clear();
  const uint64_t before = std::exchange(server_, server);
  const bool is_another = before != 0 && server != 0 && server != before;
  if (!is_another || keeps_nothing_ || !unflushed_.load(std::memory_order_relaxed)) return;
  if (tell_)
    tell_("the NBD server of " + path_ +
          " was started anew while writes had been answered and not flushed: what it had of them "
          "in its own memory is lost");
}

void NbdServer::unreachable(NbdWaiting& channel, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (channel.why.empty()) channel.without_since_us = clock_us();
  channel.why = why;
}

void NbdServer::on_warning(Target::Warn tell) {
  const std::lock_guard lock(mutex_);
  tell_ = std::move(tell);
}

}  // namespace ringdisk
