// SPDX-License-Identifier: Apache-2.0
// A source that may be away. Who takes a guest over serves what is here at once; what is not waits
// until the source has been opened, or fails while it cannot be. It is tried again and again.
#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "engine/fill_core.h"

namespace ringdisk {
namespace {

constexpr uint64_t kAgainMinUs = 500'000;
constexpr uint64_t kAgainMaxUs = 30'000'000;

}  // namespace

void FillCore::open_source() {
  cancel_source_ = late_source_.open([self = shared_from_this()](Workers::Opened opened) {
    const std::shared_ptr<Target> target = std::move(opened.target);
    self->reactor_.post_always(
        [self, target, error = opened.error] { self->source_is_open(target, error); });
  });
}

// One that comes when it is not wanted any more is closed with its last holder.
void FillCore::source_is_open(const std::shared_ptr<Target>& target, int error) {
  if (!source_is_late_) return;
  if (error != 0) return source_failed(error);
  if (!late_source_.wrong(*target).empty()) return source_failed(ESTALE);
  target->claim(
      {.share = false, .take_over = true},
      [self = shared_from_this(), target](const TargetAnswer& answer) {
        self->reactor_.post_always(
            [self, target, answer] { self->source_is_claimed(target, answer); });
      },
      [](const std::string&) {});
}

void FillCore::source_is_claimed(const std::shared_ptr<Target>& target,
                                 const TargetAnswer& answer) {
  if (!source_is_late_) return;
  if (answer.error != 0 || answer.fenced)
    return source_failed(answer.error != 0 ? answer.error : EBUSY);
  std::unique_ptr<TargetChannel> channel;
  try {
    channel = target->open_channel(place_->context());
  } catch (const std::system_error& failure) {
    return source_failed(failure.code().value());
  }
  source_is_late_ = false;
  {
    const std::lock_guard lock(mutex_);
    source_ = target;
  }
  home_->source_is_here(std::move(channel));
}

void FillCore::source_failed(int error) {
  source_delay_us_ = std::clamp(source_delay_us_ * 2, kAgainMinUs, kAgainMaxUs);
  place_->context().alarms.set(source_alarm_, clock_us() + source_delay_us_);
  home_->source_is_away(error);
}

void FillCore::stop_opening_source() {
  if (!std::exchange(source_is_late_, false)) return;
  place_->context().alarms.cancel(source_alarm_);
  if (cancel_source_) cancel_source_();
}

}  // namespace ringdisk
