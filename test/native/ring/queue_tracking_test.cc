// SPDX-License-Identifier: Apache-2.0
// A queue whose target has bitmaps: what is marked, and when.
#include <doctest/doctest.h>

#include <cerrno>

#include "queue_rig.h"

namespace ringdisk {
namespace {

constexpr uint32_t kGranularity = 4096;

constexpr uint64_t sector_of(uint64_t chunk) { return chunk * kSectorsPerPage; }

struct Fixture {
  TempMachine folder;
  std::shared_ptr<Bitmap> bitmap;
  OneQueue one;
  GuestPage page{*one.guest};

  explicit Fixture(const QueueSettings& settings = {}, uint32_t io_alignment = kSectorBytes)
      : bitmap(make("first")), one(settings, io_alignment) {}
  std::shared_ptr<Bitmap> make(const std::string& name) const {
    const std::string path = folder.dir() + "/" + name;
    Bitmap::create(path, OneQueue::kDiskBytes, kGranularity, "");
    return std::make_shared<Bitmap>(path);
  }
  // As Engine::track() does.
  void track(Bitmaps bitmaps) {
    one.target->track(bitmaps.empty() ? nullptr
                                      : std::make_shared<const Bitmaps>(std::move(bitmaps)));
    run_on(one.rig.reactor, [this] { one.rig.reactor.look_at_targets(); });
  }
  void write(uint64_t chunk, uint8_t operation = wire::kWrite) {
    one.frontend.send(raw_data(operation, chunk * kSectorsPerPage, {page.segment()}));
  }
  uint64_t marked(const std::shared_ptr<Bitmap>& map) const {
    return map->set_bytes(map->covered());
  }
  bool is_marked(uint64_t chunk) const { return bitmap->is_set(chunk * kGranularity); }
};

TEST_CASE("queue tracking: a write is marked before the target has it, a read never") {
  if (!has_io_uring()) return;
  Fixture f;
  f.track({f.bitmap});
  f.one.target->hold(true);
  f.write(3);
  f.write(4, wire::kRead);
  f.one.frontend.send(raw_discard(8 * kSectorsPerPage, 2 * kSectorsPerPage));
  f.one.target->await_held(3);
  CHECK(f.is_marked(3));
  CHECK(f.is_marked(8));
  CHECK(f.is_marked(9));
  CHECK(f.marked(f.bitmap) == 3 * kGranularity);
  f.one.release_all();
  f.one.frontend.all_answers();
}

TEST_CASE("queue tracking: what is in flight when a bitmap comes is marked, with no pause") {
  if (!has_io_uring()) return;
  Fixture f;
  f.one.target->hold(true);
  f.write(1);
  f.write(2, wire::kRead);
  f.one.target->await_held(2);
  f.track({f.bitmap});
  CHECK(f.is_marked(1));
  CHECK(f.marked(f.bitmap) == kGranularity);
  f.write(5);
  f.one.target->await_held(3);
  CHECK(f.is_marked(5));
  // It goes beside what is in flight, and what comes then is not marked.
  f.track({});
  f.write(6);
  f.one.target->await_held(4);
  CHECK_FALSE(f.is_marked(6));
  f.one.release_all();
  f.one.frontend.all_answers();
}

TEST_CASE("queue tracking: several at once, and one takes another's place") {
  if (!has_io_uring()) return;
  Fixture f;
  const auto second = f.make("second");
  f.track({f.bitmap, second});
  f.write(0);
  f.one.frontend.answer();
  f.track({second});
  f.write(1);
  f.one.frontend.answer();
  CHECK(f.marked(f.bitmap) == kGranularity);
  CHECK(f.marked(second) == 2 * kGranularity);
}

TEST_CASE("queue tracking: what failed and is tried again, or for good, stays marked") {
  if (!has_io_uring()) return;
  Fixture f({.on_error = OnError::stop});
  f.one.target->fail(Operation::Kind::write, 1, EIO);
  f.write(1);
  REQUIRE(eventually([&] { return f.one.queue->failing_count == 1; }));
  f.track({f.bitmap});
  CHECK(f.is_marked(1));
  f.one.queue->pass(200'000);
  CHECK(f.one.frontend.answer().status == wire::kOkay);
  Fixture g;
  g.track({g.bitmap});
  g.one.target->fail(Operation::Kind::write, 1, EIO);
  g.write(2);
  CHECK(g.one.frontend.answer().status == wire::kError);
  CHECK(g.is_marked(2));
}

TEST_CASE("queue tracking: small writes to large blocks mark the block") {
  if (!has_io_uring()) return;
  Fixture f({}, 4096);
  f.track({f.bitmap});
  f.one.frontend.send(raw_data(wire::kWrite, kSectorsPerPage + 3, {f.page.segment(0, 0)}));
  CHECK(f.one.frontend.answer().status == wire::kOkay);
  CHECK(f.is_marked(1));
  CHECK(f.marked(f.bitmap) == kGranularity);
}

TEST_CASE("queue tracking: a queue that closes still marks what it carries out") {
  if (!has_io_uring()) return;
  Fixture f;
  f.one.target->hold(true);
  // A discard holds the next one back, which overlaps it.
  f.one.frontend.send(raw_discard(sector_of(1), 2 * kSectorsPerPage));
  f.one.target->await_held(1);
  f.one.frontend.send(raw_data(wire::kWrite, sector_of(2), {f.page.segment(), f.page.segment()}));
  f.one.settle();
  f.one.queue->begin_close();
  f.track({f.bitmap});
  CHECK(f.is_marked(1));
  CHECK_FALSE(f.is_marked(3));
  f.one.release_all();
  CHECK(f.one.frontend.all_answers().size() == 2);
  CHECK(f.is_marked(3));
  f.one.queue->close();
  f.track({});
}

TEST_CASE("queue tracking: a queue that is made later has the bitmaps of its target") {
  if (!has_io_uring()) return;
  Fixture f;
  f.track({f.bitmap});
  const auto guest = f.one.rig.create_guest(2);
  RawFrontend frontend(*guest, 1, Abi::x86_64, 0);
  GuestPage page(*guest);
  const auto queue = f.one.rig.connect(*guest, frontend, f.one.target);
  frontend.send(raw_data(wire::kWrite, 7 * kSectorsPerPage, {page.segment()}));
  CHECK(frontend.answer().status == wire::kOkay);
  CHECK(f.is_marked(7));
}

}  // namespace
}  // namespace ringdisk
