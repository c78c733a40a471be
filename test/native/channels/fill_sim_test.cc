// SPDX-License-Identifier: Apache-2.0
// A disk that is filled from a source, by seed: several queues that read, write, discard and flush,
// errors of every disk, the death of the daemon (what it had in flight lands or doesn't, the live
// map stays) and of the host (what was not flushed is lost in random parts, the map's sectors too;
// the live map is gone). Whatever is read must be what was promised.
#include <doctest/doctest.h>

#include <unistd.h>

#include <fstream>

#include "fill_daemon.h"
#include "needs_uring.h"
#include "sim_guest.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kChunk = kFillChunkBytesMin;
constexpr uint64_t kChunks = 20;
constexpr uint64_t kSourceBytes = kChunks * kChunk - 3 * kSectorBytes;  // ends within a chunk
constexpr uint64_t kDiskBytes = (kChunks + 2) * kChunk;                 // and the disk behind it
constexpr uint64_t kSectors = kDiskBytes / kSectorBytes;
constexpr uint64_t kMostSectors = 3 * kChunk / kSectorBytes;
constexpr uint64_t kStranger = 0xbad0'bad0'bad0'bad0;  // what lay on the local disk before

uint64_t source_value(uint64_t sector) { return 0x5000'0000 + sector; }
bool is_sourced(uint64_t sector) { return sector < kSourceBytes / kSectorBytes; }
// Behind the source's end the disk is what it was.
uint64_t first_value(uint64_t sector) {
  return is_sourced(sector) ? source_value(sector) : kStranger;
}

class Sim {
 public:
  explicit Sim(unsigned seed) : random_(seed) {
    fill_sectors(local_, [](uint64_t) { return kStranger; });
    fill_sectors(source_, source_value);
    source_.is_read_only = true;
    local_.zeroes_fast = random_() % 2 == 0;
    header_.chunk_bytes = kChunk;
    header_.source_bytes = kSourceBytes;
    start();
  }
  ~Sim() { stop(); }

  void run(int steps) {
    for (int i = 0; i < steps; i++) step();
  }
  // Everything is here in the end.
  void finish() {
    calm();
    settle();
    while (guest_.has_replays()) {
      ask();
      settle();
    }
    for (int i = 0; i < 1000 && !daemon_->state().straight; i++) {
      if (daemon_->state().live) daemon_->state().live->paused() = 0;
      daemon_->home().settings_changed();
      daemon_->run_alarms();
      settle();
    }
    CHECK(daemon_->state().straight);
    CHECK(source_.is_gone);
    check_all();
    restart(false);
    check_all();
  }
  uint64_t reads() const { return guest_.reads(); }
  uint64_t deaths() const { return deaths_; }

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }

  void step() {
    if (daemon_->load_error() > 0) return try_again();
    const uint64_t what = below(1000);
    if (what < 3) return restart(true);
    if (what < 5) return restart(false);
    if (what < 6) return reopen();
    if (what < 12) return errors();
    if (what < 15) return find_source();
    if (what < 30) return daemon_->run_alarms();
    if (what < 35 && daemon_->state().live) {
      daemon_->state().live->paused() = static_cast<uint32_t>(below(4) > 0);
      return daemon_->home().settings_changed();
    }
    if (what < 400) return ask();
    if (what < 700 && daemon_->has_posted()) return daemon_->run_posted(random_);
    end_one();
  }
  void errors() {
    local_.failing_percent = below(3) == 0 ? 20 : 0;
    source_.failing_percent = below(3) == 0 ? 20 : 0;
    map_.failing_percent = below(3) == 0 ? 20 : 0;
  }
  void find_source() {
    if (!daemon_->awaits_source()) return;
    if (below(2) == 0)
      daemon_->home().source_is_away(EIO);
    else
      daemon_->give_source();
  }
  void calm() { local_.failing_percent = source_.failing_percent = map_.failing_percent = 0; }

  void end_one() {
    LossyDisk* const disks[] = {&local_, &source_, &map_};
    for (uint64_t i = below(3), tries = 0; tries < 3; i++, tries++) {
      LossyDisk& disk = *disks[i % 3];
      // A dead daemon's comes first, or last: nobody knows.
      if (!orphans_.empty() && below(2) == 0) return land_one();
      if (disk.in_flight() > 0) return disk.end_one(random_);
    }
    if (!orphans_.empty()) land_one();
  }
  struct Landing {
    LossyDisk* disk;
    LossyDisk::Orphan orphan;
  };
  void land_one() {
    const size_t which = below(orphans_.size());
    if (below(2) == 0) orphans_[which].disk->land(orphans_[which].orphan);
    orphans_.erase(orphans_.begin() + static_cast<long>(which));
    lift_fence();
  }
  void lift_fence() {
    if (!orphans_.empty() || begun_ || !daemon_->is_loaded()) return;
    begun_ = true;
    daemon_->home().begin();
  }
  // Until nothing is to be done that does not wait for a time.
  void settle() {
    for (;;) {
      lift_fence();
      if (daemon_->awaits_source()) daemon_->give_source();
      if (daemon_->load_error() > 0 && !is_dead_)
        try_again();
      else if (daemon_->has_posted())
        daemon_->run_posted(random_);
      else if (local_.in_flight() + source_.in_flight() + map_.in_flight() + orphans_.size() > 0)
        end_one();
      else if (begun_ || !daemon_->is_loaded())
        return;
    }
  }

  void ask() {
    lift_fence();
    if (daemon_->is_loaded()) guest_.ask(begun_);
  }
  void check_all() { guest_.check_disk(local_.now()); }

  void start() {
    daemon_ = std::make_unique<FillDaemon>(uring_, disks_, header_, live_path_,
                                           was_started_ && below(3) == 0);
    was_started_ = true;
    begun_ = false;
  }
  // Runs it to its end, which changes nothing that anybody sees: the disks are put back.
  void stop() {
    is_dead_ = true;
    guest_.die();
    calm();
    orphans_.clear();
    settle();
    bool closed = false;
    daemon_->home().close([&] { closed = true; });
    settle();
    RD_ASSERT(closed);
    daemon_.reset();
    guest_.live();
    is_dead_ = false;
  }
  void restart(bool host) {
    deaths_++;
    auto orphans = take_orphans();
    const std::array<LossyDisk, 3> before{local_, source_, map_};
    const std::string live = read_live();
    stop();
    local_ = before[0], source_ = before[1], map_ = before[2];
    for (LossyDisk* disk : {&local_, &source_, &map_}) disk->forget_all();
    if (host) {
      for (const Landing& one : orphans)
        if (below(2) == 0) one.disk->land(const_cast<LossyDisk::Orphan&>(one.orphan));
      orphans.clear();
      local_.host_dies(random_);
      map_.host_dies(random_);
      guest_.host_dies();
      ::unlink(live_path_.c_str());
    } else {
      std::ofstream(live_path_, std::ios::binary) << live;
    }
    orphans_ = std::move(orphans);
    source_.is_gone = false;  // it is opened again, and let go of when the map is read
    start();
  }
  void try_again() {
    daemon_.reset();
    start();
  }
  // A clean end: nothing is in flight, and the live map is not needed.
  void reopen() {
    calm();
    settle();
    stop();
    ::unlink(live_path_.c_str());
    source_.is_gone = false;
    start();
  }
  std::vector<Landing> take_orphans() {
    std::vector<Landing> all = orphans_;
    for (LossyDisk* disk : {&local_, &source_, &map_})
      for (LossyDisk::Orphan& orphan : disk->orphan_all()) all.push_back({disk, std::move(orphan)});
    return all;
  }
  std::string read_live() const {
    std::ifstream file(live_path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::minstd_rand random_;
  Uring uring_{probe_uring()};
  TempMachine folder_;
  const std::string live_path_ = folder_.dir() + "/live";
  LossyDisk local_{kDiskBytes};
  LossyDisk source_{kSourceBytes};
  LossyDisk map_{fill_map_bytes(kChunks)};
  FillDaemon::Disks disks_{local_, source_, map_};
  FillHeader header_;
  std::vector<Landing> orphans_;
  std::unique_ptr<FillDaemon> daemon_;
  bool was_started_ = false;
  bool begun_ = false;
  bool is_dead_ = false;
  uint64_t deaths_ = 0;
  SimGuest guest_{random_,
                  {kSectors, kMostSectors, kChunk / kSectorBytes},
                  first_value,
                  [this](size_t queue) -> TargetChannel& { return daemon_->channel(queue); }};
};

TEST_CASE("fill: whoever dies when, what was promised is read") {
  if (!has_io_uring()) return;
  constexpr unsigned kSeeds = 60;
  uint64_t reads = 0;
  uint64_t deaths = 0;
  for (unsigned seed = 1; seed <= kSeeds; seed++) {
    CAPTURE(seed);
    Sim sim(seed);
    sim.run(4000);
    sim.finish();
    reads += sim.reads();
    deaths += sim.deaths();
  }
  CHECK(reads > kSeeds * 50);
  CHECK(deaths > kSeeds * 5);
}

// As when a guest is taken over whose source hangs, and then goes.
TEST_CASE("fill: it ends although its source never came") {
  if (!has_io_uring()) return;
  Uring uring{probe_uring()};
  TempMachine folder;
  LossyDisk local{kDiskBytes};
  LossyDisk source{kSourceBytes};
  LossyDisk map{fill_map_bytes(kChunks)};
  const FillDaemon::Disks disks{local, source, map};
  std::minstd_rand random(1);
  FillHeader header;
  header.chunk_bytes = kChunk;
  header.source_bytes = kSourceBytes;
  FillDaemon daemon(uring, disks, header, folder.dir() + "/live", true);
  const auto settle = [&] {
    for (;;) {
      LossyDisk* busy = nullptr;
      for (LossyDisk* disk : {&local, &source, &map})
        if (disk->in_flight() > 0) busy = disk;
      if (busy)
        busy->end_one(random);
      else if (daemon.has_posted())
        daemon.run_posted(random);
      else
        return;
    }
  };
  settle();
  REQUIRE(daemon.is_loaded());
  daemon.home().begin();
  settle();
  bool closed = false;
  daemon.home().close([&] { closed = true; });
  settle();
  CHECK(closed);
}

}  // namespace
}  // namespace ringdisk
