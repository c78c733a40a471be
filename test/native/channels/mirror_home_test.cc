// SPDX-License-Identifier: Apache-2.0
// What a mirror's home owes the guest in moments that chance (mirror_sim_test.cc) seldom meets.
#include "channels/mirror_home.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "mirror_daemon.h"
#include "needs_uring.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr uint32_t kChunk = 16u << 10;
constexpr uint64_t kSecondUs = 1'000'000;

// A disk of some chunks of data, of which the destination has nothing.
struct Mirrored {
  Uring uring{probe_uring()};
  TempMachine folder;
  LossyDisk source;
  LossyDisk destination;
  std::unique_ptr<MirrorDaemon> daemon;
  std::minstd_rand random{10};

  Mirrored(uint64_t chunks, bool sync, bool paused)
      : source(chunks * kChunk), destination(chunks * kChunk) {
    fill_sectors(source, [](uint64_t sector) { return sector + 1; });
    const std::string map = folder.dir() + "/map";
    Bitmap::create(map, chunks * kChunk, kChunk, "");
    Bitmap(map).set(0, chunks * kChunk);
    daemon = std::make_unique<MirrorDaemon>(uring, source, map, [] { return false; });
    daemon->state().rate = 0;
    wish(sync, paused);
    daemon->give(destination);
  }
  ~Mirrored() {
    if (daemon) close();
  }
  void close() {
    bool closed = false;
    daemon->home().close([] {}, [&] { closed = true; });
    settle();
    CHECK(closed);
    daemon.reset();
  }
  void wish(bool sync, bool paused) {
    daemon->state().wants_sync = sync;
    daemon->state().paused = paused;
    daemon->home().settings_changed();
  }
  void hand_round() {
    while (daemon->has_posted()) daemon->run_posted(random);
  }
  // Until nothing is left but what waits for a time.
  void settle() {
    for (;;) {
      if (daemon->has_posted())
        daemon->run_posted(random);
      else if (source.in_flight() > 0)
        source.end_newest();
      else if (destination.in_flight() > 0)
        destination.end_newest();
      else
        return;
    }
  }
  uint64_t behind() { return daemon->state().behind; }
};

// A guest's write.
struct Write final : OperationSink {
  std::unique_ptr<std::byte, void (*)(void*)> memory{nullptr, std::free};
  Operation operation{};
  bool is_over = false;

  Write(Mirrored& mirrored, size_t queue, uint64_t offset, uint64_t length)
      : memory(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kChunk)), std::free) {
    std::memset(memory.get(), 1, length);
    operation.kind = Operation::Kind::write;
    operation.offset = offset;
    operation.length = length;
    operation.memory = memory.get();
    operation.sink = this;
    operation.channel = &mirrored.daemon->channel(queue);
    if (operation.channel->start(operation)) is_over = true;
  }
  void finished(Operation&) override { is_over = true; }
};

TEST_CASE("mirror_home: a step of the job that waits for a guest does not keep its memory") {
  if (!has_io_uring()) return;
  Mirrored m(1, true, true);
  std::vector<std::span<std::byte>> others;  // who have all there is
  for (auto one = m.daemon->pool().allocate(1); !one.empty(); one = m.daemon->pool().allocate(1))
    others.push_back(one);
  Write small(m, 0, 0, kSectorBytes);
  m.hand_round();
  Write whole(m, 1, 0, kChunk);
  m.hand_round();
  m.wish(true, false);
  m.source.end_newest();  // has been looked at for holes: the job's step has the reserve, and waits
  m.source.end_newest();  // the small one: now the other may go to both ends
  m.settle();
  CHECK(small.is_over);
  CHECK(whole.is_over);
  CHECK(m.destination.now() == m.source.now());
  for (const auto& one : others) m.daemon->pool().release(one);
}

TEST_CASE("mirror_home: a job that was slow goes on when it may be faster") {
  if (!has_io_uring()) return;
  Mirrored m(8, false, true);
  m.daemon->state().rate = 1;
  m.wish(false, false);
  m.settle();
  CHECK(m.behind() == 7);
  m.daemon->state().rate = 1u << 20;
  m.wish(false, false);
  for (int i = 0; i < 8; i++) {
    m.settle();
    m.daemon->run_alarms(clock_us() + kSecondUs);
  }
  m.settle();
  CHECK(m.behind() == 0);
}

TEST_CASE("mirror_home: who waits for a destination that hangs waits no longer in mode copy") {
  if (!has_io_uring()) return;
  SUBCASE("for a write") {
    Mirrored m(2, true, true);
    Write write(m, 0, 0, kChunk);
    m.hand_round();
    REQUIRE(m.destination.in_flight() == 1);
    m.source.end_newest();
    m.wish(false, true);
    m.daemon->run_alarms(clock_us() + 6 * kSecondUs);
    m.hand_round();
    CHECK(write.is_over);
    CHECK(m.daemon->state().over);
  }
  SUBCASE("for a chunk that is being copied") {
    Mirrored m(1, true, false);
    while (m.source.in_flight() > 0) m.source.end_newest();
    REQUIRE(m.destination.in_flight() == 1);
    Write write(m, 0, 0, kSectorBytes);
    m.hand_round();
    m.wish(false, true);
    m.daemon->run_alarms(clock_us() + 6 * kSecondUs);
    m.hand_round();
    while (m.source.in_flight() > 0) m.source.end_newest();
    m.hand_round();
    CHECK(write.is_over);
  }
}

TEST_CASE("mirror_home: what is said to be whole in the end is on the medium") {
  if (!has_io_uring()) return;
  Mirrored m(4, true, false);
  m.settle();
  REQUIRE(m.daemon->state().ready);
  Write write(m, 0, kChunk, kChunk);
  m.settle();
  REQUIRE(write.is_over);
  SUBCASE("and it was said") {
    m.close();
    CHECK(m.destination.broken_off == 0);
    m.destination.host_dies(m.random);
    CHECK(m.destination.now() == m.source.now());
  }
  SUBCASE("or it was not said") {
    m.destination.failing_percent = 100;
    m.close();
    CHECK(m.destination.broken_off == 1);
  }
}

TEST_CASE("mirror_home: is closed when both of its ends are") {
  if (!has_io_uring()) return;
  Mirrored m(1, true, true);
  LossyDisk* first = &m.source;
  LossyDisk* last = &m.destination;
  SUBCASE("the destination first") { std::swap(first, last); }
  SUBCASE("the source first") {}
  first->closes_slowly = last->closes_slowly = true;
  bool is_free = false;
  bool is_closed = false;
  m.daemon->home().close([&] { is_free = true; }, [&] { is_closed = true; });
  m.settle();
  REQUIRE(m.source.closing.size() == 1);
  REQUIRE(m.destination.closing.size() == 1);
  first->end_closing();
  m.settle();
  CHECK(is_free == (first == &m.source));
  CHECK(!is_closed);
  last->end_closing();
  m.settle();
  CHECK(is_closed);
  m.daemon.reset();
}

}  // namespace
}  // namespace ringdisk
