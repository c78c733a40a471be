// SPDX-License-Identifier: Apache-2.0
// Where a disk is filled from its source: one place per disk, on one reactor, for all its queues.
// What a queue asks of chunks that are here its channel does itself (fill_channel.h). All else
// comes to the home, which
//   fetches a chunk once, holding it locked (fill_home.cc);
//   keeps the map on its medium behind the data, for flushes and now and then (fill_save.cc);
//   reads that map when the disk is claimed (fill_load.cc);
//   fetches what nobody has asked for, at its own pace (fill_job.cc).
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/chunk_locks.h"
#include "channels/fill_state.h"
#include "channels/fill_work.h"
#include "channels/home.h"
#include "io/alarms.h"
#include "targets/target.h"

namespace ringdisk {

class FillHome final : public Home {
 public:
  struct Setup {
    std::unique_ptr<TargetChannel> local;
    std::unique_ptr<TargetChannel> source;  // null: it comes later
    std::unique_ptr<TargetChannel> map;
    uint32_t local_alignment = 512;
    std::string live_path;  // the map on tmpfs; empty: in memory alone
    uint64_t rate = 0;      // of the job, where the live map knows none; bytes a second
    Post post;
    // Everything is here, and the source has been let go of.
    std::function<void()> on_full;
  };
  // So many operations are with one of its channels at a time, at most.
  static constexpr uint32_t kDepth = 64;
  static constexpr uint32_t kErrandsMax = 32;  // of queues, under way
  static constexpr uint32_t kFetchesMax = 16;
  static constexpr uint32_t kJobDepth = 4;
  static constexpr uint32_t kMapWritesMax = 8;
  static constexpr uint64_t kSaveEveryUs = 5'000'000;
  static_assert(kErrandsMax + kFetchesMax + kMapWritesMax + 1 <= kDepth);

  // All on its thread.
  FillHome(FillState& state, const ChannelContext& context, Setup setup);
  ~FillHome() override;  // closed, or never loaded

  // Reads the map; the state's header says what is expected, and what to write where there is none.
  // Once; nothing else is done before begin().
  using Loaded = std::function<void(int error, const std::string& text)>;
  void load(Loaded done);
  // Nobody else writes to the disk any more: what came before this starts now.
  void begin();
  void take(FillErrand& errand);
  // One that came later; and what keeps it away until it does: with that a fetch fails, and before
  // anything is known of it a fetch waits.
  void source_is_here(std::unique_ptr<TargetChannel> source);
  void source_is_away(int error);
  // The job may go on, or go faster.
  void settings_changed();
  // Nothing of a queue's is here any more. Saves, as far as that can be done, and closes its
  // channels.
  void close(std::function<void()> done);

 private:
  friend struct FillErrand;
  struct JobAlarm final : Alarm {
    FillHome* home = nullptr;
    void on_alarm(uint64_t) override { home->job_is_due(); }
  };
  struct SaveAlarm final : Alarm {
    FillHome* home = nullptr;
    void on_alarm(uint64_t) override { home->save_is_due(); }
  };

  // fill_home.cc
  void submit(Operation& operation, FillWork& owner, TargetChannel& channel) {
    Home::submit(operation, &owner, channel);
  }
  void handle(Operation& operation) override;
  bool run_one() override;
  void rest() override { tell_if_closed(); }
  void admit(FillErrand& errand);
  void wake_hungry();
  void granted(FillErrand& errand);
  void feed(FillErrand& errand);
  bool begin_fetch(FillErrand& errand);
  void fetched(FillFetch& fetch);
  void end_fetch(FillFetch& fetch, int32_t result);
  void carry_out(FillErrand& errand);
  void carried_out(FillErrand& errand);
  void conclude(FillErrand& errand);
  void set_here(uint64_t first, uint64_t end);
  void tell_if_closed();

  // fill_save.cc
  void save_is_due();
  void start_save();
  void snapshot();
  void write_next(FillMapWrite& write);
  void block_written(FillMapWrite& write);
  void end_save(int32_t result);
  void mark_dirty(uint64_t index);
  void save_later();
  void write_header(FillHeader::State state, std::function<void(int32_t)> then);
  void finish_filling();
  void become_straight();
  void do_alone(const Operation& operation, TargetChannel& channel,
                std::function<void(int32_t)> then);

  // fill_load.cc
  void header_is_here(int32_t result);
  void start_new_map();
  void read_bits(uint64_t offset);
  void merge();
  void loaded(int error, const std::string& text);

  // fill_job.cc
  void job_is_due();
  void step();
  void job_errand_done(FillErrand& errand);

  std::byte* block(uint64_t index) const;  // of the image; 0: the header

  FillState& state_;
  const ChannelContext context_;
  std::unique_ptr<TargetChannel> local_;
  std::unique_ptr<TargetChannel> source_;
  std::unique_ptr<TargetChannel> map_;
  const uint32_t local_alignment_;
  const std::string live_path_;
  const uint64_t rate_;
  const std::function<void()> on_full_;

  bool begun_ = false;
  bool closing_ = false;
  bool source_leaves_ = false;
  int source_error_ = 0;
  std::function<void()> closed_;

  ChunkLocks locks_;
  Fifo<FillErrand> waiting_;  // for begin(), or for others to be over
  Fifo<FillErrand> ready_;    // with all chunks locked
  Fifo<FillErrand> hungry_;
  uint32_t errands_ = 0;  // under way, those of the job not counted
  std::array<FillFetch, kFetchesMax> fetches_;
  Fifo<FillFetch> free_fetches_;
  uint32_t fetching_ = 0;

  // What is on the map's medium, or on its way there: its header and blocks of bits.
  std::byte* image_ = nullptr;
  size_t image_bytes_ = 0;
  std::vector<bool> is_dirty_;     // by block: the live map has more
  std::vector<uint64_t> dirty_;    // the same, as a list
  std::vector<uint64_t> writing_;  // blocks
  size_t next_write_ = 0;
  std::array<FillMapWrite, kMapWritesMax> map_writes_;
  uint32_t writes_out_ = 0;
  FillOwn own_;
  bool saving_ = false;
  bool save_due_ = false;
  int32_t save_result_ = 0;
  uint64_t taken_ = 0;        // of `unsaved`, into the image since the last save that succeeded
  Fifo<FillErrand> saves_;    // flushes that wait for the next save
  Fifo<FillErrand> serving_;  // and those of this one
  SaveAlarm save_alarm_;
  Loaded on_loaded_;

  std::array<FillErrand, kJobDepth> job_errands_;
  Fifo<FillErrand> idle_job_errands_;
  uint32_t job_errands_out_ = 0;
  uint64_t cursor_ = 0;
  uint64_t job_at_us_ = 0;
  uint64_t backoff_us_ = 0;
  JobAlarm job_alarm_;
};

}  // namespace ringdisk
