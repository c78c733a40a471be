// SPDX-License-Identifier: Apache-2.0
// A disk that is mirrored, by seed: several queues that read, write, discard and flush; errors of
// both ends and a destination that hangs; both modes; the death of the daemon (what it had in
// flight lands or doesn't, its map stays) and of the host (what was not flushed is lost in random
// parts). Now and then the destination becomes the disk. The guest must find what it was promised,
// and never an error of the destination's.
#include <doctest/doctest.h>

#include <unistd.h>

#include <fstream>
#include <memory>

#include "mirror_daemon.h"
#include "needs_uring.h"
#include "sim_guest.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kChunk = 16u << 10;
constexpr uint64_t kDiskBytes = 20 * kChunk + 3 * kSectorBytes;  // ends within a chunk
constexpr uint64_t kSectors = kDiskBytes / kSectorBytes;
constexpr uint64_t kStranger = 0xbad0'bad0'bad0'bad0;

// Data, and some holes.
uint64_t first_value(uint64_t sector) { return sector / 96 % 3 == 1 ? 0 : 0x5000'0000 + sector; }

class Sim {
 public:
  explicit Sim(unsigned seed) : random_(seed) {
    fill_sectors(disks_[0], first_value);
    if (below(2) == 0) fill_sectors(disks_[1], [](uint64_t) { return kStranger; });
    for (LossyDisk& disk : disks_) {
      disk.zeroes_fast = below(2) == 0;
      disk.zeroes_at_all = below(4) > 0;
    }
    start(true);
  }
  ~Sim() { kill(); }

  void run(int steps) {
    for (int i = 0; i < steps; i++) step();
  }
  // The destination has all of it in the end.
  void finish() {
    calm();
    for (int tries = 0; tries < 100 && !daemon_->state().ready; tries++) {
      if (daemon_->state().over) renew();
      settle();
      wish(true, false);
      settle();
      daemon_->run_alarms(clock_us() + 1'000'000);
      settle();
    }
    REQUIRE(daemon_->state().ready);
    change_over();
    guest_.check_disk(source().now());
    // Errors are the source's.
    if (source_errors_ == 0) CHECK(guest_.errors() == 0);
  }

  static inline uint64_t reads, deaths, switches, failures, hangs;

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }
  LossyDisk& source() { return disks_[source_index_]; }
  LossyDisk& destination() { return disks_[1 - source_index_]; }

  void step() {
    const uint64_t what = below(1000);
    if (what < 1) return restart(true);
    if (what < 3) return restart(false);
    if (what < 6) return errors();
    if (what < 7) return hang();
    if (what < 12) return wish(below(3) > 0, below(4) == 0);
    if (what < 40) return daemon_->run_alarms(clock_us() + 1'000'000);
    if (what < 50) return give();
    if (what < 70) return daemon_->state().over && guest_.is_idle() ? renew() : end_one();
    if (what < 90) return daemon_->state().ready ? change_over() : end_one();
    if (what < 420) return guest_.ask(is_source_free());
    if (what < 700 && daemon_->has_posted()) return daemon_->run_posted(random_);
    end_one();
  }
  // The destination's seldom, or nothing would ever be copied.
  void errors() {
    source().failing_percent = below(4) == 0 ? 20 : 0;
    if (source().failing_percent > 0) source_errors_++;
    destination().failing_percent = below(8) == 0 ? 5 : 0;
  }
  void calm() { source().failing_percent = destination().failing_percent = 0; }
  // It does not answer for long; where a guest waits for it, it waits no longer.
  void hang() {
    if (destination().in_flight() == 0 || !is_given_) return;
    hangs_ = true;
    for (int i = 0; i < 30; i++) {
      guest_.ask(is_source_free());
      while (daemon_->has_posted()) daemon_->run_posted(random_);
      while (source().in_flight() > 0) source().end_one(random_);
    }
    const bool is_sync = daemon_->state().sync;
    daemon_->run_alarms(clock_us() + (is_sync ? 6'000'000 : 61'000'000));
    while (daemon_->has_posted() || source().in_flight() > 0) {
      if (daemon_->has_posted()) daemon_->run_posted(random_);
      if (source().in_flight() > 0) source().end_one(random_);
    }
    hangs++;
    CHECK(daemon_->state().over);
    CHECK(guest_.is_idle());
    hangs_ = false;
  }
  void wish(bool sync, bool paused) {
    daemon_->state().wants_sync = sync;
    daemon_->state().paused = paused;
    daemon_->home().settings_changed();
  }
  // To the home, when nothing of a dead daemon's can land there any more.
  void give() {
    if (is_given_ || !is_free(destination())) return;
    is_given_ = true;
    daemon_->give(destination());
  }

  struct Landing {
    LossyDisk* disk;
    LossyDisk::Orphan orphan;
  };
  bool is_free(const LossyDisk& disk) const {
    return std::ranges::none_of(orphans_, [&](const Landing& one) { return one.disk == &disk; });
  }
  bool is_source_free() { return is_free(source()); }
  void end_one() {
    if (!orphans_.empty() && below(2) == 0) return land_one();
    LossyDisk& disk = disks_[below(2)];
    if (disk.in_flight() > 0) disk.end_one(random_);
  }
  void land_one() {
    const size_t which = below(orphans_.size());
    if (below(2) == 0) orphans_[which].disk->land(orphans_[which].orphan);
    orphans_.erase(orphans_.begin() + static_cast<long>(which));
  }
  // Until nothing is to be done that does not wait for a time.
  void settle() {
    for (;;) {
      give();
      if (daemon_->has_posted())
        daemon_->run_posted(random_);
      else if (disks_[0].in_flight() + disks_[1].in_flight() + orphans_.size() > 0)
        end_one();
      else if (guest_.has_replays() && !is_dead_)
        guest_.ask(true);
      else if (is_given_)
        return;
    }
  }

  void start(bool is_new) {
    if (is_new) {
      ::unlink(map_path_.c_str());
      Bitmap::create(map_path_, kDiskBytes, kChunk, "");
      Bitmap(map_path_).set(0, kDiskBytes);
    }
    daemon_ = std::make_unique<MirrorDaemon>(uring_, source(), map_path_,
                                             [this] { return !is_source_free(); });
    daemon_->state().wants_sync = below(2) == 0;
    daemon_->home().settings_changed();
    is_given_ = false;
  }
  void close() {
    bool closed = false;
    bool is_source_left = false;
    daemon_->home().close([&] { is_source_left = true; }, [&] { closed = true; });
    settle();
    RD_ASSERT(closed && is_source_left);
    daemon_.reset();
  }
  // Runs it to its end, which changes nothing that anybody sees: the disks are put back.
  void kill() {
    is_dead_ = true;
    guest_.die();
    calm();
    orphans_.clear();
    settle();
    close();
    guest_.live();
    is_dead_ = false;
  }
  // It has failed: another one is begun.
  void renew() {
    if (!guest_.is_idle()) return;
    failures++;
    calm();
    settle();
    // What hung had memory of its own: nothing of another request's was written.
    for (uint64_t at = 0; at < kDiskBytes; at += kSectorBytes) {
      uint64_t word = 0;
      std::memcpy(&word, &destination().now()[at], 8);
      REQUIRE(word != SimGuest::kReused);
    }
    close();
    start(true);
  }
  void restart(bool host) {
    deaths++;
    auto orphans = orphans_;
    for (LossyDisk& disk : disks_)
      for (LossyDisk::Orphan& orphan : disk.orphan_all())
        orphans.push_back({&disk, std::move(orphan)});
    const std::array<LossyDisk, 2> before = disks_;
    const std::string map = read_map();
    kill();
    disks_ = before;
    for (LossyDisk& disk : disks_) disk.forget_all();
    if (host) {
      for (Landing& one : orphans)
        if (below(2) == 0) one.disk->land(one.orphan);
      orphans.clear();
      for (LossyDisk& disk : disks_) disk.host_dies(random_);
      guest_.host_dies();
    } else {
      std::ofstream(map_path_, std::ios::binary) << map;
    }
    orphans_ = std::move(orphans);
    const bool is_lost = host || Bitmap(map_path_).state() != Bitmap::State::recording;
    if (is_lost) orphans_to_source_only();
    start(is_lost);
  }
  // A new mirror is begun when a dead one's destination has been let go of.
  void orphans_to_source_only() {
    for (Landing& one : orphans_)
      if (one.disk == &destination() && below(2) == 0) one.disk->land(one.orphan);
    std::erase_if(orphans_, [&](const Landing& one) { return one.disk == &destination(); });
  }
  std::string read_map() const {
    std::ifstream file(map_path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // As in an exchange: nothing new is begun until nothing is under way, and then it is looked.
  void change_over() {
    while (!guest_.is_idle()) {
      if (daemon_->has_posted())
        daemon_->run_posted(random_);
      else
        end_one();
    }
    if (!daemon_->state().ready) return;
    REQUIRE(destination().now() == source().now());
    switches++;
    const size_t under_way = destination().in_flight();
    CHECK(under_way == 0);
    calm();
    settle();
    const LossyDisk then = destination();
    close();
    source_index_ = 1 - source_index_;
    if (below(3) == 0) {
      // Before the mirror was closed, which flushes.
      source() = then;
      source().host_dies(random_);
      guest_.host_dies();
    }
    start(true);
  }

  std::minstd_rand random_;
  Uring uring_{probe_uring()};
  TempMachine folder_;
  const std::string map_path_ = folder_.dir() + "/map";
  std::array<LossyDisk, 2> disks_{LossyDisk{kDiskBytes}, LossyDisk{kDiskBytes}};
  size_t source_index_ = 0;
  std::vector<Landing> orphans_;
  std::unique_ptr<MirrorDaemon> daemon_;
  SimGuest guest_{random_,
                  {kSectors, 3 * kChunk / kSectorBytes, kChunk / kSectorBytes},
                  first_value,
                  [this](size_t queue) -> TargetChannel& { return daemon_->channel(queue); }};
  bool is_given_ = false;
  bool is_dead_ = false;
  bool hangs_ = false;
  uint64_t source_errors_ = 0;

 public:
  uint64_t guest_reads() const { return guest_.reads(); }
};

TEST_CASE("mirror: whoever dies when, the guest finds what it was promised at either end") {
  if (!has_io_uring()) return;
  constexpr unsigned kSeeds = 60;
  for (unsigned seed = 1; seed <= kSeeds; seed++) {
    CAPTURE(seed);
    Sim sim(seed);
    sim.run(6000);
    sim.finish();
    Sim::reads += sim.guest_reads();
  }
  MESSAGE("reads " << Sim::reads << ", deaths " << Sim::deaths << ", switches " << Sim::switches
                   << ", failures " << Sim::failures << ", hangs " << Sim::hangs);
  CHECK(Sim::reads > kSeeds * 50);
  CHECK(Sim::deaths > kSeeds * 5);
  CHECK(Sim::switches > kSeeds * 2);
  CHECK(Sim::failures > kSeeds);
  CHECK(Sim::hangs > kSeeds);
}

}  // namespace
}  // namespace ringdisk
