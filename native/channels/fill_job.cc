// SPDX-License-Identifier: Apache-2.0
// The job: chunks that nobody has asked for, in order, a few at a time, at its own pace. What fails
// is passed over and tried again when the others are here, ever more slowly.
#include <algorithm>

#include "base/clock.h"
#include "channels/fill_home.h"

namespace ringdisk {
namespace {

constexpr uint64_t kBackoffMinUs = 100'000;
constexpr uint64_t kBackoffMaxUs = 30'000'000;
constexpr uint64_t kSecondUs = 1'000'000;

}  // namespace

void FillHome::job_is_due() {
  enter([this] {
    job_at_us_ = 0;
    step();
  });
}

void FillHome::settings_changed() { job_is_due(); }

void FillHome::step() {
  if (!begun_ || closing_ || !state_.live) return;
  while (!idle_job_errands_.empty() && state_.absent.load(std::memory_order_relaxed) > 0) {
    if (state_.live->paused().load(std::memory_order_relaxed) != 0) return;
    const uint64_t now = clock_us();
    if (job_at_us_ > now) return context_.alarms.set(job_alarm_, job_at_us_);
    uint64_t chunk = state_.next_absent(cursor_, state_.chunks);
    if (chunk == state_.chunks) chunk = state_.next_absent(0, state_.chunks);
    if (chunk == state_.chunks) return;
    cursor_ = chunk + 1;
    const uint64_t rate = state_.live->rate().load(std::memory_order_relaxed);
    if (rate > 0) job_at_us_ = std::max(job_at_us_, now) + state_.chunk_bytes() * kSecondUs / rate;
    FillErrand& errand = *idle_job_errands_.pop();
    errand.first = chunk;
    errand.end = chunk + 1;
    job_errands_out_++;
    admit(errand);
  }
}

void FillHome::job_errand_done(FillErrand& errand) {
  job_errands_out_--;
  idle_job_errands_.push(errand);
  state_.failing.store(-errand.result, std::memory_order_relaxed);
  if (errand.result < 0) {
    // Several that were under way together fail once.
    const uint64_t now = clock_us();
    if (job_at_us_ <= now) backoff_us_ = std::clamp(backoff_us_ * 2, kBackoffMinUs, kBackoffMaxUs);
    job_at_us_ = std::max(job_at_us_, now + backoff_us_);
  } else {
    backoff_us_ = 0;
  }
  step();
}

}  // namespace ringdisk
