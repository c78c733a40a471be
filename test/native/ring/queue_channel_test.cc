// SPDX-License-Identifier: Apache-2.0
// What a queue gives its channel, and how the two end.
#include <doctest/doctest.h>

#include "queue_rig.h"

namespace ringdisk {
namespace {

// Of what the reactor's thread does the test sees the atomics.
struct Seen {
  std::atomic<uint32_t> depth{0};
  std::atomic<int> rung{0};
  std::atomic<bool> is_closing{false};
  std::atomic<bool> is_deleted{false};
};

class CuriousChannel final : public TargetChannel, private Alarm {
 public:
  CuriousChannel(Seen& seen, const ChannelContext& context) : seen_(seen), context_(context) {
    seen_.depth = context.depth;
  }
  ~CuriousChannel() override { seen_.is_deleted = true; }
  // A write takes memory, is counted and answered by an alarm; all else at once.
  bool start(Operation& operation) override {
    operation.result = 0;
    if (operation.kind != Operation::Kind::write) return true;
    block_ = context_.memory.allocate(kPageBytes);
    context_.counters.retries.add();
    waiting_ = &operation;
    context_.alarms.set(*this, clock_us() + 1000);
    return false;
  }
  bool advance(Operation&, int32_t) override { return true; }
  void close(std::function<void()> done) override {
    done_ = std::move(done);
    seen_.is_closing = true;
  }
  // Its end comes from within an alarm.
  void end() { context_.alarms.set(*this, clock_us()); }

 private:
  void on_alarm(uint64_t) override {
    seen_.rung++;
    if (done_) return done_();
    context_.memory.release(block_);
    waiting_->sink->finished(*waiting_);
  }

  Seen& seen_;
  const ChannelContext context_;
  BounceShare::Block block_;
  Operation* waiting_ = nullptr;
  std::function<void()> done_;
};

class CuriousTarget final : public Target {
 public:
  Seen seen;
  CuriousChannel* channel = nullptr;  // the reactor's

  CuriousTarget() { facts_.capabilities.capacity = 1 << 20; }
  std::unique_ptr<TargetChannel> open_channel(const ChannelContext& context) override {
    auto made = std::make_unique<CuriousChannel>(seen, context);
    channel = made.get();
    return made;
  }
};

struct Fixture {
  QueueRig rig;
  std::unique_ptr<LoopbackDomain> guest = rig.create_guest(1);
  std::shared_ptr<CuriousTarget> target = std::make_shared<CuriousTarget>();
  RawFrontend frontend;
  std::unique_ptr<ConnectedQueue> queue;

  explicit Fixture(uint32_t ring_pages = 1)
      : frontend(*guest, ring_pages), queue(rig.connect(*guest, frontend, target)) {}
  void end_channel() {
    run_on(rig.reactor, [this] { target->channel->end(); });
  }
};

TEST_CASE("queue: its channel is told how many operations come at a time") {
  if (!has_io_uring()) return;
  for (const auto& [pages, entries] : {std::pair(1u, 32u), std::pair(16u, 512u)}) {
    Fixture fixture(pages);
    CHECK(fixture.target->seen.depth == entries);
    fixture.queue->begin_close();
    REQUIRE(eventually([&] { return fixture.target->seen.is_closing.load(); }));
    fixture.end_channel();
    fixture.queue->close();
  }
}

TEST_CASE("queue: its channel has memory, alarms and counters of the queue") {
  if (!has_io_uring()) return;
  Fixture fixture;
  GuestPage page(*fixture.guest);
  CHECK(fixture.frontend.ask(raw_data(wire::kWrite, 0, {page.segment()})) == wire::kOkay);
  CHECK(fixture.target->seen.rung == 1);
  CHECK(fixture.queue->counters().retries.get() == 1);
  fixture.queue->begin_close();
  fixture.end_channel();
  fixture.queue->close();
}

TEST_CASE("queue: nothing is let go of before its channel has ended") {
  if (!has_io_uring()) return;
  Fixture fixture;
  fixture.queue->begin_close();
  REQUIRE(eventually([&] { return fixture.target->seen.is_closing.load(); }));
  for (int i = 0; i < 10; i++) run_on(fixture.rig.reactor, [] {});
  CHECK_FALSE(fixture.queue->closed());
  CHECK_FALSE(fixture.target->seen.is_deleted);
  CHECK_FALSE(fixture.rig.is_clean());
  fixture.end_channel();
  fixture.queue->close();
  CHECK(fixture.target->seen.is_deleted);
  CHECK(fixture.rig.is_clean());
}

}  // namespace
}  // namespace ringdisk
