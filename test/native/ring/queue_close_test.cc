// SPDX-License-Identifier: Apache-2.0
// The two ends of a queue: connecting to what cannot be, and letting go at any moment.
#include <doctest/doctest.h>

#include <random>
#include <system_error>

#include "queue_rig.h"
#include "ring/queue.h"

namespace ringdisk {
namespace {

struct Connecting {
  QueueRig rig;
  std::unique_ptr<LoopbackDomain> guest = rig.create_guest(1);
  std::shared_ptr<ScriptedTarget> target = std::make_shared<ScriptedTarget>(1u << 20);

  int connect(Domid domid, const std::vector<GrantRef>& ring_refs, Port port) {
    try {
      ConnectedQueue queue(rig.reactor, rig.budget, target, domid, ring_refs, port, {});
    } catch (const std::system_error& error) {
      return error.code().value();
    }
    return 0;
  }
};

TEST_CASE("connect: a ring or port that cannot be had fails and leaves nothing behind") {
  if (!has_io_uring()) return;
  Connecting c;
  GuestPage page(*c.guest);
  GuestPage readonly(*c.guest, true);
  GuestPage revoked(*c.guest);
  REQUIRE(c.guest->revoke(revoked.gref));
  const Port port = c.guest->open_port();
  CHECK(c.connect(1, {readonly.gref}, port) == EACCES);
  CHECK(c.connect(1, {revoked.gref}, port) == EINVAL);
  CHECK(c.connect(1, {page.gref, UINT32_MAX}, port) == EINVAL);
  CHECK(c.connect(1, {page.gref}, port + 1) == ENOENT);
  CHECK(c.connect(1, {page.gref}, UINT32_MAX) == ENOENT);
  CHECK(c.connect(2, {page.gref}, port) == ENOENT);
  CHECK(c.rig.is_clean());
  CHECK(c.guest->grants_in_use() == 0);
  CHECK(c.connect(1, {page.gref}, port) == 0);
  CHECK(c.connect(1, {page.gref}, port) == 0);  // and again: the port was given back
  CHECK(c.rig.is_clean());
}

TEST_CASE("connect: a port somebody else has bound is refused") {
  if (!has_io_uring()) return;
  Connecting c;
  RawFrontend frontend(*c.guest, 1);
  const auto queue = c.rig.connect(*c.guest, frontend, c.target);
  GuestPage other(*c.guest);
  CHECK(c.connect(1, {other.gref}, frontend.port()) == EINVAL);
  CHECK(c.guest->grants_in_use() == 1);
}

TEST_CASE("connect: a ring full of rubbish from the start breaks that ring") {
  if (!has_io_uring()) return;
  Connecting c;
  RawFrontend frontend(*c.guest, 1);
  std::memset(frontend.shared(), 0xff, kPageBytes);
  RawFrontend::store(frontend.header().req_prod, 12345);
  const auto queue = c.rig.connect(*c.guest, frontend, c.target);
  CHECK(eventually([&] { return queue->broken == 1; }));
}

TEST_CASE("close: nothing is unmapped while an operation hangs") {
  if (!has_io_uring()) return;
  QueueSettings settings;
  settings.grants = GrantStrategy::persistent;
  OneQueue one(settings);
  GuestPage page(*one.guest);
  page.fill(0x33);
  one.target->hold(true);
  one.frontend.put(raw_data(wire::kWrite, 0, {page.segment()}));
  one.frontend.put(raw_data(wire::kRead, 8, {page.segment()}));
  one.frontend.publish();
  const auto held = one.target->await_held(2);
  one.queue->begin_close();
  one.settle();
  CHECK_FALSE(one.queue->closed());
  CHECK(one.guest->in_use(page.gref));
  one.finish(held[0]);
  one.settle();
  CHECK_FALSE(one.queue->closed());
  CHECK(one.guest->in_use(page.gref));
  CHECK(one.guest->in_use(one.frontend.ring_refs[0]));
  one.finish(held[1]);
  one.queue->close();
  CHECK(one.queue->drained());
  CHECK(one.guest->grants_in_use() == 0);
  CHECK(one.target->at(0) == std::byte{0x33});
  // Answered still, for a frontend that is there to see it.
  CHECK(one.frontend.all_answers().size() == 2);
}

TEST_CASE("close: what was taken is carried out, what was not stays in the ring") {
  if (!has_io_uring()) return;
  OneQueue one;
  GuestPage page(*one.guest);
  one.target->hold(true);
  one.frontend.put(raw_data(wire::kWriteBarrier, 0, {page.segment()}));
  one.frontend.put(raw_data(wire::kWrite, 8, {page.segment()}));
  one.frontend.publish();
  const auto held = one.target->await_held(1);
  one.settle();
  one.frontend.send(raw_data(wire::kRead, 0, {page.segment()}));  // behind the barrier: not taken
  one.queue->begin_close();
  one.release_all();
  one.queue->close();
  CHECK(one.queue->drained());
  one.frontend.answer();
  one.frontend.answer();
  CHECK_FALSE(one.frontend.has_answers());
  CHECK(RawFrontend::load(one.frontend.header().rsp_prod) == 2);
}

TEST_CASE("close: a discard that has not begun is not begun any more") {
  if (!has_io_uring()) return;
  OneQueue one;
  one.target->hold(true);
  one.frontend.put(raw_discard(0, 64));
  one.frontend.put(raw_discard(32, 64));  // waits for the first
  one.frontend.publish();
  const auto held = one.target->await_held(1);
  one.settle();
  one.queue->begin_close();
  one.finish(held[0]);
  one.queue->close();
  CHECK(one.target->held_count() == 0);
  CHECK(one.frontend.answer().status == wire::kOkay);
  CHECK(one.frontend.answer().status == wire::kError);
}

TEST_CASE("close: a broken, a penalised and a storming queue let go as well") {
  if (!has_io_uring()) return;
  OneQueue broken;
  RawFrontend::store(broken.frontend.header().req_prod, 999);
  broken.frontend.notify();
  REQUIRE(eventually([&] { return broken.queue->broken == 1; }));
  broken.queue->close();
  OneQueue penalised;
  CHECK(penalised.frontend.ask(raw_data(200, 0, {})) == wire::kNotSupported);
  penalised.queue->close();
  OneQueue storming;
  for (int i = 0; i < 1000; i++) storming.frontend.notify();
  storming.queue->close();
}

// Under load of all kinds, at a moment that differs from run to run of the loop.
TEST_CASE("close: at any moment, and connected again on the same ring") {
  if (!has_io_uring()) return;
  for (const GrantStrategy grants :
       {GrantStrategy::copy, GrantStrategy::map, GrantStrategy::persistent}) {
    QueueSettings settings;
    settings.grants = grants;
    QueueRig rig;
    const auto guest = rig.create_guest(1);
    const auto target = std::make_shared<ScriptedTarget>(1u << 20, 4096);
    RawFrontend frontend(*guest, 1);
    std::vector<GuestPage> pages;
    for (int i = 0; i < 8; i++) pages.emplace_back(*guest);
    std::mt19937 random(1234);
    for (int round = 0; round < 60; round++) {
      const auto queue = rig.connect(*guest, frontend, target, settings);
      for (size_t i = frontend.unanswered(); i < 32; i++) {
        const auto operation = static_cast<uint8_t>(random() % 4);
        frontend.put(raw_data(operation, random() % 1000, {pages[random() % 8].segment(1, 6)}));
      }
      frontend.publish();
      for (size_t spin = random() % 20000; spin > 0; spin--)
        std::atomic_signal_fence(std::memory_order_seq_cst);
      queue->close();
      REQUIRE(queue->drained());
      REQUIRE(rig.is_clean());
      REQUIRE(guest->grants_in_use() == 0);
      while (frontend.has_answers()) frontend.answer();
    }
    const auto queue = rig.connect(*guest, frontend, target, settings);
    for (const auto& [id, status] : frontend.all_answers()) CHECK(status == wire::kOkay);
  }
}

}  // namespace
}  // namespace ringdisk
