// SPDX-License-Identifier: Apache-2.0
// The end of a mirror. From then on the source alone is the disk, and no guest waits for the
// destination. What that still has under way it keeps, with its memory, until it comes back.
#include <algorithm>
#include <cerrno>
#include <memory>
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
  const bool is_kept = untouched_ && error == ECANCELED;
  if (!is_kept && !RD_PLANTED("mirror-failed")) state_.map.set_state(Bitmap::State::inconsistent);
  RD_KILL_POINT("mirror:failed");
  state_.error = error;
  state_.ready.store(false, std::memory_order_release);
  state_.speed = 0;
  state_.over.store(true, std::memory_order_release);
  for (MirrorWrite& write : writes_)
    if (MirrorErrand* errand = std::exchange(write.errand, nullptr)) part_is_over(*errand);
  for (MirrorCopy& copy : copies_) abandon(copy);
  wake_hungry();
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
    const auto hangs = [now_us](uint64_t since_us, bool is_waited_for) {
      const uint64_t patience = is_waited_for ? kSyncPatienceUs : kCopyPatienceUs;
      return since_us != 0 && since_us + patience <= now_us;
    };
    // What was begun in mode sync is waited for in the other mode, too.
    bool any = hangs(own_.since_us, false);
    for (const MirrorWrite& write : writes_) any |= hangs(write.since_us, sync || write.errand);
    for (const MirrorCopy& copy : copies_) any |= hangs(copy.since_us, sync || copy.locked);
    if (any) return give_up(ETIMEDOUT);
    context_.alarms.set(hang_alarm_, clock_us() + kSyncPatienceUs / 5);
  });
}

void MirrorHome::close(std::function<void()> source_is_free, std::function<void()> done) {
  enter([this, &source_is_free, &done] {
    closing_ = true;
    // Who stops a mirror has ended it before: the disk goes on here, and nobody is to go on there.
    is_whole_ = state_.ready.load(std::memory_order_relaxed);
    // Either may take as long as its storage does: what is still closing must not be destroyed.
    const auto one_is_gone = [ends = std::make_shared<int>(2), done = std::move(done)] {
      if (--*ends == 0) done();
    };
    source_is_free_ = [free = std::move(source_is_free), one_is_gone] {
      free();
      one_is_gone();
    };
    closed_ = one_is_gone;
    give_up(ECANCELED);
    context_.alarms.cancel(job_alarm_);
    context_.alarms.cancel(hang_alarm_);
  });
}

bool MirrorHome::is_with_source() const {
  const bool own = own_.then && own_.since_us == 0;
  return errands_ > 0 || own || std::ranges::any_of(copies_, [](const MirrorCopy& copy) {
           return copy.stage == MirrorCopy::Stage::waiting ||
                  copy.stage == MirrorCopy::Stage::reading;
         });
}

// So that what is said to be whole is on the medium. A server that was started anew since it was
// asked last has no connection over which to be told, and gets one by this.
void MirrorHome::flush_last() {
  do_alone({.kind = Operation::Kind::flush}, *destination_, [this](int32_t result) {
    if (result < 0) is_whole_ = false;
  });
}

void MirrorHome::tell_if_closed() {
  if (!closing_) return;
  if (source_is_free_ && !is_with_source()) source_->close(std::exchange(source_is_free_, nullptr));
  if (source_is_free_ || !closed_ || copies_out_ > 0 || there_ > 0 || own_.then) return;
  if (is_whole_ && !std::exchange(has_flushed_, true)) return flush_last();
  const std::function<void()> done = std::exchange(closed_, nullptr);
  if (!destination_) return done();
  if (!is_whole_) destination_->break_off();
  destination_->close(done);
}

}  // namespace ringdisk
