// SPDX-License-Identifier: Apache-2.0
// What need not be copied, looked for the first time round: chunks that are holes of the source.
// Where the destination has holes, too, as a new file has nothing else, nothing is done at all;
// elsewhere they are zeroed, many at a time. What is written to while it is looked at, or later,
// counts as data.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/kill_point.h"
#include "channels/mirror_home.h"
#include "medium/block_map.h"

namespace ringdisk {

static_assert(kMapBytes <= kPageBytes);

void MirrorHome::look(uint64_t chunk) {
  if (own_.then) return;  // which brings us back
  looking_ = true;
  window_first_ = chunk;
  window_end_ = std::min(chunk + kWindowChunks, valid_.count());
  holes_.reset();
  blanks_.reset();
  touched_.reset();
  for (uint32_t i = 0; i < active_count_; i++)
    touch_window(active_[i]->first_chunk, active_[i]->end_chunk);
  map_window(*source_, holes_, [this] { look_there(); });
}

void MirrorHome::look_there() {
  const bool is_over = closing_ || state_.over.load(std::memory_order_relaxed);
  if (holes_.none() || is_over) return end_look();
  map_window(*destination_, blanks_, [this] { end_look(); });
}

void MirrorHome::end_look() {
  looking_ = false;
  holes_ &= ~touched_;
  blanks_ &= ~touched_;
}

void MirrorHome::map_window(TargetChannel& channel, Chunks& found, std::function<void()> then) {
  const uint64_t offset = window_first_ * state_.chunk_bytes();
  const Operation map{.kind = Operation::Kind::map,
                      .offset = offset,
                      .length = end_of(window_end_ - 1) - offset,
                      .memory = map_memory_.data()};
  do_alone(map, channel, [this, &found, then = std::move(then)](int32_t result) {
    if (result >= 0) found = zero_chunks();
    then();
  });
}

// What cannot be told is data.
MirrorHome::Chunks MirrorHome::zero_chunks() const {
  Chunks zero;
  const auto* extents = reinterpret_cast<const MapExtent*>(map_memory_.data());
  const uint64_t chunk = state_.chunk_bytes();
  const uint64_t limit = end_of(window_end_ - 1);
  uint64_t at = window_first_ * chunk;
  uint64_t zero_from = at;  // up to `at` all is zero
  for (size_t i = 0; i < kMapExtents && extents[i].length > 0 && at < limit; i++) {
    const bool is_data = extents[i].kind == MapKind::data;
    at += std::min(extents[i].length, limit - at);
    if (is_data) zero_from = at;
    uint64_t index = (zero_from + chunk - 1) / chunk;
    for (; index < window_end_ && end_of(index) <= at; index++) zero.set(index - window_first_);
  }
  return zero;
}

void MirrorHome::touch_window(uint64_t first, uint64_t end) {
  if (RD_PLANTED("mirror-holes")) return;
  for (uint64_t i = std::max(first, window_first_); i < std::min(end, window_end_); i++) {
    touched_.set(i - window_first_);
    holes_.reset(i - window_first_);
    blanks_.reset(i - window_first_);
  }
}

// How many from here on are to be zeroed together.
uint64_t MirrorHome::zero_run(uint64_t chunk) const {
  const uint64_t most = std::max<uint64_t>(kZeroBytesMax / state_.chunk_bytes(), 1);
  const bool sync = state_.sync.load(std::memory_order_relaxed);
  uint64_t count = 0;
  for (; count < most && in_window(chunk + count); count++) {
    const uint64_t one = chunk + count;
    const bool is_free = !valid_.has(one) && !is_copied(one) && (sync || !is_active(one));
    if (!is_hole(one) || is_blank(one) || !is_free) break;
  }
  return count;
}

void MirrorHome::do_alone(const Operation& operation, TargetChannel& channel,
                          std::function<void(int32_t)> then) {
  RD_ASSERT(!own_.then);
  own_.then = std::move(then);
  own_.operation = operation;
  if (&channel == destination_.get()) return submit_there(own_.operation, own_, own_.since_us);
  submit(own_.operation, own_, channel);
}

}  // namespace ringdisk
