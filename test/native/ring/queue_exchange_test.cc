// SPDX-License-Identifier: Apache-2.0
// One queue's half of an exchange: when it is quiet, and that it starts nothing then.
#include <doctest/doctest.h>

#include <cerrno>

#include "queue_rig.h"
#include "watching_filter.h"

namespace ringdisk {
namespace {

struct Fixture {
  Watched watched;
  OneQueue one;
  GuestPage page{*one.guest};
  std::atomic<int> ready{-1};

  explicit Fixture(const QueueSettings& settings = {}) : one(settings) {}
  void prepare(StackChange change) {
    run_on(one.rig.reactor,
           [&] { one.queue->requests().prepare(change, [this](int error) { ready = error; }); });
  }
  void commit() {
    run_on(one.rig.reactor, [this] { one.queue->requests().commit(); });
  }
  // One write is held by the target when it begins, one comes after that. Returns what is held.
  auto prepare_beside_a_write() {
    one.target->hold(true);
    write();
    auto held = one.target->await_held(1);
    prepare(put_watching(1, watched));
    write();
    return held;
  }
  uint64_t write() { return one.frontend.send(raw_data(wire::kWrite, 0, {page.segment()})); }
};

TEST_CASE("queue exchange: quiet when what is in flight has come back, and nothing new starts") {
  if (!has_io_uring()) return;
  Fixture f;
  const auto held = f.prepare_beside_a_write();
  f.one.settle();
  CHECK(f.ready == -1);
  CHECK(f.one.target->held_count() == 1);
  f.one.finish(held[0]);
  REQUIRE(eventually([&] { return f.ready == 0; }));
  f.one.frontend.answer();
  f.one.settle();
  CHECK(f.one.target->held_count() == 0);
  CHECK(f.watched.started == 0);
  f.commit();
  f.one.finish(f.one.target->await_held(1)[0]);
  CHECK(f.one.frontend.answer().status == wire::kOkay);
  CHECK(f.watched.started == 1);
}

TEST_CASE("queue exchange: who is not quiet in time goes on as before") {
  if (!has_io_uring()) return;
  Fixture f;
  f.prepare_beside_a_write();
  f.one.queue->pass(6'000'000);
  REQUIRE(eventually([&] { return f.ready == ETIMEDOUT; }));
  f.one.target->await_held(2);
  CHECK(f.watched.filters == 0);
  f.one.release_all();
  f.one.frontend.all_answers();
  CHECK(f.watched.started == 0);
}

TEST_CASE("queue exchange: what waits to be tried again goes by the new stack") {
  if (!has_io_uring()) return;
  Fixture f({.on_error = OnError::stop});
  f.one.target->fail(Operation::Kind::write, 1, EIO);
  f.write();
  REQUIRE(eventually([&] { return f.one.queue->failing_count == 1; }));
  f.prepare(put_watching(1, f.watched));
  CHECK(f.ready == 0);
  f.one.queue->pass(200'000);  // its time comes meanwhile
  f.one.settle();
  CHECK_FALSE(f.one.frontend.has_answers());
  f.commit();
  CHECK(f.one.frontend.answer().status == wire::kOkay);
  CHECK(f.watched.started == 1);
}

TEST_CASE("queue exchange: a queue that is closed under way has its requests answered") {
  if (!has_io_uring()) return;
  for (const bool quiet : {false, true}) {
    Fixture f;
    f.one.target->hold(!quiet);
    if (!quiet) f.write();
    if (!quiet) f.one.target->await_held(1);
    f.prepare(put_watching(1, f.watched));
    const uint64_t waiting = f.write();
    f.one.settle();
    CHECK(f.ready == (quiet ? 0 : -1));
    f.one.queue->begin_close();
    f.one.release_all();
    CHECK(f.one.frontend.all_answers().at(waiting) == wire::kOkay);
    f.one.queue->close();
    CHECK(f.ready == (quiet ? 0 : ECANCELED));
    CHECK(f.watched.filters == 0);
  }
}

}  // namespace
}  // namespace ringdisk
