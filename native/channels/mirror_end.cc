// SPDX-License-Identifier: Apache-2.0
// The end of a mirror. From then on the source alone is the disk, and no guest waits for the
// destination. What that still has under way it keeps, with its memory, until it comes back.
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/kill_point.h"
#include "channels/mirror_home.h"

namespace ringdisk {

void MirrorHome::fail(int error) {
  enter([this, error] { give_up(error); });
}

// In this order: whoever finds the map later must not go on where it says, since from now on
// nothing is noted there.
void MirrorHome::give_up(int error) {
  if (state_.over.load(std::memory_order_relaxed)) return;
  if (!RD_PLANTED("mirror-failed")) state_.map.set_state(Bitmap::State::inconsistent);
  RD_KILL_POINT("mirror:failed");
  state_.error = error;
  state_.ready.store(false, std::memory_order_release);
  state_.speed = 0;
  state_.over.store(true, std::memory_order_release);
  for (MirrorWrite& write : writes_)
    if (MirrorErrand* errand = std::exchange(write.errand, nullptr)) part_is_over(*errand);
  for (MirrorCopy& copy : copies_) abandon(copy);
  while (MirrorErrand* hungry = hungry_.pop()) ready_.push(*hungry);
  on_change_();
}

// Guests may wait for its chunk.
void MirrorHome::abandon(MirrorCopy& copy) {
  const bool is_there = copy.stage == MirrorCopy::Stage::writing;
  if (is_there && std::exchange(copy.locked, false)) locks_.release(copy);
}

void MirrorHome::look_for_hanging(uint64_t now_us) {
  enter([this, now_us] {
    if (there_ == 0 || state_.over.load(std::memory_order_relaxed)) return;
    const bool sync = state_.sync.load(std::memory_order_relaxed);
    const uint64_t patience = sync ? kSyncPatienceUs : kCopyPatienceUs;
    const auto hangs = [&](uint64_t since_us) {
      return since_us != 0 && since_us + patience <= now_us;
    };
    bool any = hangs(own_.since_us);
    for (const MirrorWrite& write : writes_) any |= hangs(write.since_us);
    for (const MirrorCopy& copy : copies_) any |= hangs(copy.since_us);
    if (any) return give_up(ETIMEDOUT);
    context_.alarms.set(hang_alarm_, clock_us() + kSyncPatienceUs / 5);
  });
}

void MirrorHome::close(std::function<void()> done) {
  enter([this, &done] {
    closing_ = true;
    closed_ = std::move(done);
    give_up(ECANCELED);
    context_.alarms.cancel(job_alarm_);
    context_.alarms.cancel(hang_alarm_);
  });
}

void MirrorHome::tell_if_closed() {
  if (!closed_ || errands_ > 0 || copies_out_ > 0 || there_ > 0 || own_.then) return;
  auto channels = std::make_shared<int>(destination_ ? 2 : 1);
  const auto one_is_gone = [channels, done = std::exchange(closed_, nullptr)] {
    if (--*channels == 0) done();
  };
  source_->close(one_is_gone);
  if (destination_) destination_->close(one_is_gone);
}

}  // namespace ringdisk
