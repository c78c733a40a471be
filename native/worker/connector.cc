// SPDX-License-Identifier: Apache-2.0
#include "worker/connector.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace ringdisk {
namespace {

// How often it is looked whether a server has closed what it had with us.
constexpr uint64_t kLookUs = 20'000;
constexpr uint64_t kAgainMinUs = 50'000;
constexpr uint64_t kAgainMaxUs = 1'000'000;
// A server that is started anew is back by then: for so long requests wait without an error.
constexpr uint64_t kPatienceUs = 1'500'000;

uint64_t longer(uint64_t delay_us) { return std::clamp(delay_us * 2, kAgainMinUs, kAgainMaxUs); }

}  // namespace

Connector::Connector(Medium& medium, Tell tell) : medium_(medium), tell_(std::move(tell)) {
  std::thread([this] { run(); }).detach();
}

void Connector::add(const Wish& wish) {
  Waiting waiting{.wish = wish};
  for (uint32_t i = 0; i < std::min(wish.failures, 8u); i++)
    waiting.delay_us = longer(waiting.delay_us);
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const Waiting& one) { return one.wish.id == wish.id; });
  waiting_.push_back(waiting);
  changed_.notify_one();
}

void Connector::forget(uint32_t id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const Waiting& one) { return one.wish.id == id; });
  if (at_work_ == id) at_work_ = 0;
}

void Connector::run() {
  for (;;) {
    Waiting due;
    if (take_due(due)) try_to_connect(due);
  }
}

// Who wants one and may have it now. Sleeps until then.
bool Connector::take_due(Waiting& due) {
  std::unique_lock lock(mutex_);
  if (waiting_.empty()) changed_.wait(lock);
  const uint64_t now = clock_us();
  uint64_t next = now + kAgainMaxUs;
  for (Waiting& one : waiting_) {
    if (one.since_us == 0 && !medium_.is_open(one.wish.ended)) {
      one.since_us = now;
      one.next_us = now + one.delay_us;
    }
    if (one.since_us == 0)
      next = std::min(next, now + kLookUs);
    else
      next = std::min(next, one.next_us);
  }
  if (next > now) {
    changed_.wait_for(lock, std::chrono::microseconds(next - now));
    return false;
  }
  const auto first = std::ranges::find_if(
      waiting_, [now](const Waiting& one) { return one.since_us != 0 && one.next_us <= now; });
  if (first == waiting_.end()) return false;
  due = *first;
  waiting_.erase(first);
  at_work_ = due.wish.id;
  return true;
}

void Connector::try_to_connect(Waiting waiting) {
  try {
    const Medium::Connected connected = medium_.connect();
    WorkerReply told;
    told.type = WorkerReply::Type::connected;
    told.lane = waiting.wish.id;
    told.peer = connected.peer;
    told.server = connected.server;
    const int fd = connected.socket.get();
    const std::lock_guard lock(mutex_);
    if (at_work_ == waiting.wish.id) tell_(told, std::span(&fd, 1));
  } catch (const std::exception& error) {
    put_back(waiting, error.what());
  }
}

void Connector::put_back(Waiting waiting, const std::string& why) {
  const uint64_t now = clock_us();
  waiting.delay_us = longer(waiting.delay_us);
  waiting.next_us = now + waiting.delay_us;
  const std::lock_guard lock(mutex_);
  if (at_work_ != waiting.wish.id) return;
  const bool is_newer = std::ranges::any_of(
      waiting_, [&](const Waiting& one) { return one.wish.id == waiting.wish.id; });
  if (is_newer) return;
  if (!waiting.told && now - waiting.since_us >= kPatienceUs) {
    WorkerReply told;
    told.type = WorkerReply::Type::unreachable;
    told.lane = waiting.wish.id;
    put_text(told.text, why);
    tell_(told, {});
    waiting.told = true;
  }
  waiting_.push_back(waiting);
}

}  // namespace ringdisk
