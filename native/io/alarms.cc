// SPDX-License-Identifier: Apache-2.0
#include "io/alarms.h"

#include <algorithm>
#include <utility>

namespace ringdisk {

namespace {
constexpr size_t kUsual = 16;  // more than a stack of channels has
}

Alarms::Alarms(std::function<void(uint64_t)> wake_by) : wake_by_(std::move(wake_by)) {
  set_.reserve(kUsual);
}

void Alarms::set(Alarm& alarm, uint64_t at_us) {
  if (!alarm.is_set()) set_.push_back(&alarm);
  alarm.at_us_ = at_us;
  wake_by_(at_us);
}

void Alarms::cancel(Alarm& alarm) {
  if (!alarm.is_set()) return;
  alarm.at_us_ = kNever;
  std::erase(set_, &alarm);
}

void Alarms::run(uint64_t now_us) {
  const auto is_due = [now_us](const Alarm* alarm) { return alarm->at_us_ <= now_us; };
  // Looked for anew each time: whoever is called may change the list. One that sets itself again
  // for a time that has come is called in the next run.
  for (size_t left = set_.size(); left > 0; left--) {
    const auto due = std::ranges::find_if(set_, is_due);
    if (due == set_.end()) break;
    Alarm& alarm = **due;
    cancel(alarm);
    alarm.on_alarm(now_us);
  }
  uint64_t next = kNever;
  for (const Alarm* alarm : set_) next = std::min(next, alarm->at_us_);
  if (next != kNever) wake_by_(next);
}

}  // namespace ringdisk
