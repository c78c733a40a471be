// SPDX-License-Identifier: Apache-2.0
// Where a disk is mirrored to a destination while it is used: one place per disk, on one reactor,
// for all its queues. Whatever changes the disk comes here, and
//   goes to the source, and to the destination where that has the chunk (mirror_home.cc);
//   what the destination has not is copied at the job's own pace (mirror_job.cc), holes and zeroes
//     without being written (mirror_holes.cc);
//   a destination that fails or hangs ends the mirror, and nothing else (mirror_end.cc).
//
// Two rows of bits say what the destination has. `valid_` is this process's: the ends are alike but
// for what is under way. The map is for whoever comes after a death: its bit is set before anything
// is submitted by which they may come to differ, and cleared when they are alike and nothing is
// under way there.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "base/chunk_locks.h"
#include "base/units.h"
#include "channels/chunk_bits.h"

#include "channels/home.h"
#include "channels/mirror_state.h"
#include "channels/mirror_work.h"
#include "io/alarms.h"
#include "targets/target.h"

namespace ringdisk {

class MirrorHome final : public Home {
 public:
  struct Setup {
    std::unique_ptr<TargetChannel> source;
    // Whether a dead process may still write to it: until it can't nothing is copied.
    std::function<bool()> source_is_fenced;
    Post post;
    // It has become ready, has been all over the disk once, or is over: see the state.
    std::function<void()> on_change;
  };
  static constexpr uint32_t kErrandsMax = 64;
  static constexpr uint32_t kCopiesMax = 16;
  // So many operations are with one of its channels at a time, at most.
  static constexpr uint32_t kDepth = 128;
  static_assert(kErrandsMax + kCopiesMax + 1 <= kDepth);
  // A discard that is longer goes to the source alone, and the job brings its holes over.
  static constexpr uint64_t kBothDiscardMax = 32u << 20;
  // Chunks that are looked at for holes at a time, and zeroed at a time.
  static constexpr uint64_t kWindowChunks = 1024;
  static constexpr uint64_t kZeroBytesMax = 16u << 20;
  // How long the destination may take, where a guest waits for it and where none does.
  static constexpr uint64_t kSyncPatienceUs = 5'000'000;
  static constexpr uint64_t kCopyPatienceUs = 60'000'000;

  // All on its thread.
  MirrorHome(MirrorState& state, const ChannelContext& context, Setup setup);
  ~MirrorHome() override;  // closed

  void take(MirrorErrand& errand);
  // From now on it may be written to: nobody else does.
  void destination_is_here(std::unique_ptr<TargetChannel> destination);
  // What the state wishes is others now.
  void settings_changed();
  // The mirror is over, for this reason; once.
  void fail(int error);
  // No filter is left. Fails; `source_is_free` when nothing of it is with the source any more,
  // `done` when nothing is with the destination either, which may hang.
  void close(std::function<void()> source_is_free, std::function<void()> done);

 private:
  friend struct MirrorErrand;
  friend struct MirrorCopy;
  using Chunks = std::bitset<kWindowChunks>;
  struct JobAlarm final : Alarm {
    MirrorHome* home = nullptr;
    void on_alarm(uint64_t) override { home->settings_changed(); }
  };
  struct HangAlarm final : Alarm {
    MirrorHome* home = nullptr;
    void on_alarm(uint64_t now_us) override { home->look_for_hanging(now_us); }
  };

  // mirror_home.cc
  void submit(Operation& operation, MirrorWork& owner, TargetChannel& channel) {
    Home::submit(operation, &owner, channel);
  }
  void submit_there(Operation& operation, MirrorWork& owner, uint64_t& since_us);
  void handle(Operation& operation) override;
  bool run_one() override;
  void rest() override { tell_if_closed(); }
  void admit(MirrorErrand& errand);
  void wake_hungry();
  void begin(MirrorErrand& errand);
  void begin_flush(MirrorErrand& errand);
  bool goes_to_both(const MirrorErrand& errand) const;
  MirrorWrite* prepare_write(MirrorErrand& errand);
  bool take_memory_back();
  void source_has(MirrorErrand& errand);
  void discard_there(MirrorErrand& errand);
  void destination_has(MirrorWrite& write);
  void part_is_over(MirrorErrand& errand);
  void settle(const MirrorErrand& errand);
  void touch(const MirrorErrand& errand);
  bool is_active(uint64_t chunk) const;
  bool copies_unlocked(uint64_t first, uint64_t end) const;
  void invalidate(uint64_t first, uint64_t end);
  void validate(uint64_t first, uint64_t end);
  uint64_t end_of(uint64_t chunk) const;

  // mirror_job.cc
  bool may_copy();
  void step();
  void wait_until(uint64_t at_us);
  bool next_chunk(uint64_t& chunk);
  bool is_copied(uint64_t chunk) const;
  bool begin_copy(uint64_t chunk);
  void begin(MirrorCopy& copy);
  void go_on(MirrorCopy& copy);
  void copy_was_read(MirrorCopy& copy);
  void copy_is_there(MirrorCopy& copy);
  void flush_now_and_then(uint64_t bytes);
  void end_copy(MirrorCopy& copy);
  void end_sweep();
  void note_progress(uint64_t bytes);
  void become_ready();

  // mirror_holes.cc
  void look(uint64_t chunk);
  void look_there();
  void end_look();
  void map_window(TargetChannel& channel, Chunks& found, std::function<void()> then);
  Chunks zero_chunks() const;
  void touch_window(uint64_t first, uint64_t end);
  bool is_hole(uint64_t chunk) const { return in_window(chunk) && holes_[chunk - window_first_]; }
  bool is_blank(uint64_t chunk) const { return in_window(chunk) && blanks_[chunk - window_first_]; }
  bool in_window(uint64_t chunk) const { return chunk >= window_first_ && chunk < window_end_; }
  uint64_t zero_run(uint64_t chunk) const;
  void do_alone(const Operation& operation, TargetChannel& channel,
                std::function<void(int32_t)> then);

  // mirror_end.cc
  void give_up(int error);
  void abandon(MirrorCopy& copy);
  void look_for_hanging(uint64_t now_us);
  void flush_last();
  void tell_if_closed();
  bool is_with_source() const;

  MirrorState& state_;
  const ChannelContext context_;
  std::unique_ptr<TargetChannel> source_;
  std::unique_ptr<TargetChannel> destination_;
  const std::function<bool()> source_is_fenced_;
  const std::function<void()> on_change_;
  std::function<void()> source_is_free_;
  std::function<void()> closed_;
  bool closing_ = false;
  bool is_whole_ = false;  // the destination had all there is when the end began
  bool has_flushed_ = false;
  bool untouched_ = true;  // nothing was done that the map does not know of

  ChunkBits valid_;
  uint64_t changes_ = 0;  // how often something became invalid
  ChunkLocks locks_;      // sectors
  Fifo<MirrorErrand> waiting_;
  Fifo<MirrorErrand> ready_;   // locked
  Fifo<MirrorErrand> hungry_;  // for memory
  std::array<MirrorErrand*, kErrandsMax> active_{};
  uint32_t active_count_ = 0;  // submitted and not concluded
  uint32_t errands_ = 0;
  std::array<MirrorWrite, kErrandsMax> writes_;
  Fifo<MirrorWrite> free_writes_;
  uint32_t there_ = 0;  // operations that are with the destination

  std::array<MirrorCopy, kCopiesMax> copies_;
  Fifo<MirrorCopy> idle_copies_;
  Fifo<MirrorCopy> ready_copies_;
  uint32_t copies_out_ = 0;
  uint64_t cursor_ = 0;
  bool sweeping_ = true;  // the first time round
  bool no_zeroes_ = false;
  uint64_t job_at_us_ = 0;
  uint64_t backoff_us_ = 0;
  uint64_t unflushed_bytes_ = 0;
  uint64_t progress_bytes_ = 0;
  uint64_t progress_since_us_ = 0;
  JobAlarm job_alarm_;
  HangAlarm hang_alarm_;

  MirrorOwn own_;
  uint64_t window_first_ = 0;
  uint64_t window_end_ = 0;
  Chunks holes_;    // of the source
  Chunks blanks_;   // of the destination: it reads zeroes
  Chunks touched_;  // since it was looked at
  bool looking_ = false;
  alignas(kPageBytes) std::array<std::byte, kPageBytes> map_memory_;
};

}  // namespace ringdisk
