// SPDX-License-Identifier: Apache-2.0
// A disk that is filled from a source, by seed: several queues that read, write, discard and flush,
// errors of every disk, the death of the daemon (what it had in flight lands or doesn't, the live
// map stays) and of the host (what was not flushed is lost in random parts, the map's sectors too;
// the live map is gone). Whatever is read must be what was promised.
#include <doctest/doctest.h>

#include <unistd.h>

#include <fstream>
#include <optional>

#include "disk_promises.h"
#include "fill_daemon.h"
#include "needs_uring.h"
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

void fill_sectors(LossyDisk& disk, uint64_t (*value)(uint64_t)) {
  for (uint64_t at = 0; at < disk.now().size(); at += 8) {
    const uint64_t word = value(at / kSectorBytes);
    std::memcpy(&disk.now()[at], &word, 8);
  }
  disk.settle();
}

struct Asked {
  Operation::Kind kind{};
  Zeroes zeroes = Zeroes::no;
  bool secure = false;
  uint64_t first = 0;  // sectors
  uint64_t count = 0;
  uint64_t value = 0;
  uint64_t number = 0;  // of the promise, where it is carried out once more

  bool writes() const { return kind == Operation::Kind::write || kind == Operation::Kind::discard; }
};

class Sim final : private OperationSink {
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
  ~Sim() override { stop(); }

  void run(int steps) {
    for (int i = 0; i < steps; i++) step();
  }
  // Everything is here in the end.
  void finish() {
    calm();
    settle();
    while (!replays_.empty()) {
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
  uint64_t reads() const { return reads_; }
  uint64_t deaths() const { return deaths_; }

 private:
  struct Slot {
    Operation operation{};
    std::unique_ptr<std::byte, void (*)(void*)> memory{
        static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kMostSectors* kSectorBytes)),
        std::free};
    bool busy = false;
    Asked asked{};
    uint64_t begun = 0;
  };

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
    const size_t queue = below(FillDaemon::kQueues);
    if (!daemon_->is_loaded()) return;
    Asked asked;
    if (begun_ && !replays_.empty()) {
      asked = replays_.back();
      if (!issue(queue, asked)) return;
      return replays_.pop_back();
    }
    const uint64_t what = below(100);
    asked.first = below(kSectors);
    asked.count = 1 + below(std::min(kMostSectors, kSectors - asked.first));
    if (below(3) == 0) {  // whole chunks
      asked.first = asked.first * kSectorBytes / kChunk * kChunk / kSectorBytes;
      asked.count = (1 + below(2)) * kChunk / kSectorBytes;
    }
    if (asked.first + asked.count > kSectors) return;
    asked.value = next_value_++;
    asked.kind = what < 32   ? Operation::Kind::read
                 : what < 65 ? Operation::Kind::write
                 : what < 82 ? Operation::Kind::discard
                             : Operation::Kind::flush;
    if (what >= 70 && what < 75) asked.zeroes = below(2) == 0 ? Zeroes::may_free : Zeroes::keep;
    if (what >= 75 && what < 77) asked.zeroes = Zeroes::fast;
    if (what == 77) asked.secure = true;
    issue(queue, asked);
  }
  bool is_in_the_way(const Asked& asked) const {
    if (asked.kind == Operation::Kind::flush) return false;
    const auto meets = [&](const Asked& other) {
      return other.kind != Operation::Kind::flush && (asked.writes() || other.writes()) &&
             other.first < asked.first + asked.count && asked.first < other.first + other.count;
    };
    for (const auto& queue : slots_)
      for (const Slot& slot : queue)
        if (slot.busy && meets(slot.asked)) return true;
    // What is to be carried out once more has the older data.
    return std::ranges::any_of(
        replays_, [&](const Asked& other) { return other.value != asked.value && meets(other); });
  }
  bool issue(size_t queue, const Asked& asked) {
    const bool changes = asked.kind != Operation::Kind::read;
    if ((changes && !begun_) || is_in_the_way(asked)) return false;
    const auto found = std::ranges::find(slots_[queue], false, &Slot::busy);
    if (found == slots_[queue].end()) return false;
    Slot& slot = *found;
    slot.busy = true;
    slot.asked = asked;
    slot.operation = {};
    Operation& operation = slot.operation;
    operation.kind = asked.kind;
    operation.sink = this;
    operation.owner = &slot;
    operation.channel = &daemon_->channel(queue);
    if (asked.kind != Operation::Kind::flush) {
      operation.offset = asked.first * kSectorBytes;
      operation.length = asked.count * kSectorBytes;
    }
    operation.zeroes = asked.zeroes;
    operation.secure = asked.secure;
    operation.memory = slot.memory.get();
    if (asked.kind == Operation::Kind::write)
      std::fill_n(reinterpret_cast<uint64_t*>(slot.memory.get()), asked.count * 64, asked.value);
    begin(slot);
    if (operation.channel->start(operation)) finished(operation);
    return true;
  }
  void begin(Slot& slot) {
    const Asked asked = slot.asked;
    if (asked.kind == Operation::Kind::flush) slot.begun = promises_.flush_begins();
    if (asked.number != 0) slot.begun = asked.number;
    if (!asked.writes() || asked.number != 0) return;
    const bool is_write = asked.kind == Operation::Kind::write;
    slot.begun = slot.asked.number = promises_.write_begins(
        asked.first, asked.count, DiskPromises::Values{is_write ? asked.value : 0});
  }

  void finished(Operation& operation) override {
    Slot& slot = *static_cast<Slot*>(operation.owner);
    slot.busy = false;
    if (is_dead_) return;
    const Asked& asked = slot.asked;
    const int32_t result = operation.result;
    if (asked.kind == Operation::Kind::flush && result == 0) promises_.flush_over(slot.begun);
    if (asked.kind == Operation::Kind::read && result == 0) check_read(slot);
    if (!asked.writes()) return;
    // A discard that promises nothing may do nothing.
    const bool is_hint =
        asked.kind == Operation::Kind::discard && !asked.secure && asked.zeroes == Zeroes::no;
    promises_.write_over(slot.begun, asked.first, asked.count, result < 0 || is_hint);
  }
  void check_read(const Slot& slot) {
    reads_++;
    const auto* words = reinterpret_cast<const uint64_t*>(slot.memory.get());
    for (uint64_t i = 0; i < slot.asked.count; i++)
      check_sector(slot.asked.first + i, words + i * 64);
  }
  void check_sector(uint64_t sector, const uint64_t* words) {
    const bool is_one = std::all_of(words, words + 64, [&](uint64_t one) { return one == *words; });
    const bool is_right = is_one && promises_.read(sector, *words);
    if (is_right) return;
    CAPTURE(sector);
    CAPTURE(*words);
    CAPTURE(deaths_);
    REQUIRE(is_right);
  }
  void check_all() {
    const auto* words = reinterpret_cast<const uint64_t*>(local_.now().data());
    for (uint64_t sector = 0; sector < kSectors; sector++)
      check_sector(sector, words + sector * 64);
  }

  void start() {
    daemon_ = std::make_unique<FillDaemon>(uring_, disks_, header_, live_path_,
                                           was_started_ && below(3) == 0);
    was_started_ = true;
    begun_ = false;
  }
  // Runs it to its end, which changes nothing that anybody sees: the disks are put back.
  void stop() {
    is_dead_ = true;
    calm();
    orphans_.clear();
    settle();
    bool closed = false;
    daemon_->home().close([&] { closed = true; });
    settle();
    RD_ASSERT(closed);
    daemon_.reset();
    is_dead_ = false;
  }
  void restart(bool host) {
    deaths_++;
    auto orphans = take_orphans();
    const std::array<LossyDisk, 3> before{local_, source_, map_};
    const std::string live = read_live();
    if (!host)
      for (const auto& queue : slots_)
        for (const Slot& slot : queue)
          if (slot.busy && slot.asked.writes()) replays_.push_back(slot.asked);
    if (host) replays_.clear();
    stop();
    local_ = before[0], source_ = before[1], map_ = before[2];
    for (LossyDisk* disk : {&local_, &source_, &map_}) disk->forget_all();
    if (host) {
      for (const Landing& one : orphans)
        if (below(2) == 0) one.disk->land(const_cast<LossyDisk::Orphan&>(one.orphan));
      orphans.clear();
      local_.host_dies(random_);
      map_.host_dies(random_);
      promises_.host_dies();
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
  DiskPromises promises_{kSectors, first_value};
  std::array<std::array<Slot, FillDaemon::kDepth>, FillDaemon::kQueues> slots_;
  std::vector<Asked> replays_;
  std::vector<Landing> orphans_;
  std::unique_ptr<FillDaemon> daemon_;
  bool was_started_ = false;
  bool begun_ = false;
  bool is_dead_ = false;
  uint64_t next_value_ = 1;
  uint64_t reads_ = 0;
  uint64_t deaths_ = 0;
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
