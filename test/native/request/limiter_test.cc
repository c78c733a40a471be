// SPDX-License-Identifier: Apache-2.0
// A queue's limiter in a time of the test's own: nothing here takes as long as it says.
#include "request/limiter.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

namespace ringdisk {
namespace {

using Kind = ValidRequest::Kind;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 1000 * kSecond;

std::shared_ptr<Limits> limits_of(const LimitRates& rates) {
  auto limits = std::make_shared<Limits>();
  limits->set(rates, kStart);
  return limits;
}

// One queue, as far as its engine would go: whatever is let through is carried out at once.
struct Queue {
  uint64_t wakes_at_us = kNever;
  Alarms alarms{[this](uint64_t at_us) { wakes_at_us = std::min(wakes_at_us, at_us); }};
  QueueCounters counters;
  std::deque<Slot> slots;
  SlotList waiting;
  Limiter limiter;
  std::vector<uint16_t> started{};  // by index
  std::map<Kind, uint64_t> count{};
  uint64_t bytes = 0;

  Queue(std::shared_ptr<Limits> limits, uint32_t depth)
      : slots(depth), limiter(std::move(limits), depth, alarms, counters) {
    for (uint16_t i = 0; i < depth; i++) slots[i].index = i;
  }
  void accept(uint16_t index, Kind kind, uint64_t length = 4096) {
    Slot& slot = slots[index];
    slot.valid = {};
    slot.valid.kind = kind;
    slot.valid.sector_count = kind == Kind::flush ? 0 : length / kSectorBytes;
    waiting.push(slot);
  }
  // What its reactor does in a round. Returns how many were started.
  size_t round(uint64_t now_ns) {
    if (wakes_at_us <= now_ns / 1000) {
      wakes_at_us = kNever;
      alarms.run(now_ns / 1000);
    }
    limiter.pass(waiting, now_ns);
    started.clear();
    while (Slot* slot = waiting.pop()) {
      slot->admitted = false;
      started.push_back(slot->index);
      count[slot->valid.kind]++;
      bytes += slot->valid.sector_count * kSectorBytes;
    }
    return started.size();
  }
};

// Each of `queues` always has all of its slots in use, all of one kind; they wake up to `late_ns`
// after the alarm, at different times.
uint64_t flood(std::vector<Queue*> queues, Kind kind, uint64_t length, uint64_t ns,
               uint64_t late_ns) {
  std::mt19937_64 random(3);
  uint64_t now = kStart;
  for (Queue* queue : queues)
    for (uint16_t i = 0; i < queue->slots.size(); i++) queue->accept(i, kind, length);
  std::vector<uint64_t> wakes(queues.size(), now);
  while (now < kStart + ns) {
    for (size_t i = 0; i < queues.size(); i++) {
      if (wakes[i] > now) continue;
      while (queues[i]->round(now) > 0)
        for (const uint16_t index : queues[i]->started) queues[i]->accept(index, kind, length);
      REQUIRE(queues[i]->wakes_at_us != kNever);
      wakes[i] = queues[i]->wakes_at_us * 1000 + (late_ns > 0 ? random() % late_ns : 0);
    }
    now = *std::ranges::min_element(wakes);
  }
  return now - kStart;
}

double error_of(uint64_t count, uint64_t rate, uint64_t burst, uint64_t ns) {
  const double expected =
      static_cast<double>(rate) * static_cast<double>(ns) / 1e9 + static_cast<double>(burst);
  return static_cast<double>(count) / expected - 1;
}

TEST_CASE("limiter: ten seconds of a flood, within a hundredth, at any rate and size") {
  for (const uint64_t rate : {1u, 7u, 100u, 2'000u, 50'000u, 300'000u}) {
    CAPTURE(rate);
    Queue queue(limits_of({.operations = {.both = rate}}), 32);
    const uint64_t ns = flood({&queue}, Kind::read, 4096, 10 * kSecond, 2'000'000);
    const double error = error_of(queue.count[Kind::read], rate, std::max(rate / 10, 1ul), ns);
    CHECK(std::abs(error) < std::max(0.01, 1.1 / static_cast<double>(rate * 10)));
  }
  for (const uint64_t length : {512u, 4096u, 65536u, 1u << 20}) {
    CAPTURE(length);
    constexpr uint64_t kRate = 20u << 20;
    Queue queue(limits_of({.bytes = {.writes = kRate}}), 32);
    const uint64_t ns = flood({&queue}, Kind::write, length, 10 * kSecond, 2'000'000);
    CHECK(std::abs(error_of(queue.bytes, kRate, kRate / 10, ns)) < 0.012);
  }
}

TEST_CASE("limiter: all queues together keep the limit, and the shallow one gets as much") {
  const auto limits = limits_of({.operations = {.both = 1000}});
  Queue deep(limits, 512);
  Queue shallow(limits, 1);
  Queue other(limits, 32);
  const uint64_t ns = flood({&deep, &shallow, &other}, Kind::write, 4096, 10 * kSecond, 1'000'000);
  const uint64_t all =
      deep.count[Kind::write] + shallow.count[Kind::write] + other.count[Kind::write];
  CHECK(std::abs(error_of(all, 1000, 100, ns)) < 0.01);
  for (Queue* queue : {&deep, &shallow, &other}) {
    const double share = static_cast<double>(queue->count[Kind::write]) / static_cast<double>(all);
    CHECK(share > 0.3);
    CHECK(share < 0.37);
  }
}

// What each disk has had of a group's 1000 a second in ten.
std::vector<double> shares_of(const std::vector<std::vector<Queue*>>& disks, uint64_t length) {
  std::vector<Queue*> queues;
  for (const auto& disk : disks) queues.insert(queues.end(), disk.begin(), disk.end());
  std::map<Queue*, uint64_t> before;
  for (Queue* queue : queues) before[queue] = queue->count[Kind::read];
  const uint64_t ns = flood(queues, Kind::read, length, 10 * kSecond, 100'000);
  double all = 0;
  std::vector<double> counts;
  for (const auto& disk : disks) {
    uint64_t had = 0;
    for (Queue* queue : disk) had += queue->count[Kind::read] - before[queue];
    counts.push_back(static_cast<double>(had));
    all += counts.back();
  }
  CHECK(std::abs(error_of(static_cast<uint64_t>(all), 1000, 100, ns)) < 0.01);
  for (double& count : counts) count /= all;
  return counts;
}

TEST_CASE("limiter: disks of a group have what their weights say, however many queues they have") {
  for (const uint64_t length : {uint64_t{4096}, uint64_t{1} << 20}) {
    CAPTURE(length);
    const auto group = limits_of({.bytes = {.both = 1000 * length}});
    const auto heavy = std::make_shared<Limits>(group, 6);
    const auto light = std::make_shared<Limits>(group, 2);
    const auto lone = std::make_shared<Limits>(group, 1);
    Queue a(heavy, 4), b0(light, 32), b1(light, 32), b2(light, 512), b3(light, 32), c(lone, 1);
    const auto three = shares_of({{&a}, {&b0, &b1, &b2, &b3}, {&c}}, length);
    CHECK(std::abs(three[0] - 6.0 / 9) < 0.02);
    CHECK(std::abs(three[1] - 2.0 / 9) < 0.02);
    CHECK(std::abs(three[2] - 1.0 / 9) < 0.02);
  }
}

TEST_CASE("limiter: what a disk of a group does not use the others have, by their weights") {
  const auto group = limits_of({.operations = {.both = 1000}});
  const auto idle = std::make_shared<Limits>(group, 100);
  const auto one = std::make_shared<Limits>(group, 3);
  const auto other = std::make_shared<Limits>(group, 1);
  Queue i(idle, 8), a(one, 8), b(other, 8);
  SUBCASE("nobody else waits") { CHECK(shares_of({{&b}}, 4096)[0] == 1); }
  SUBCASE("one is idle") {
    const auto two = shares_of({{&a}, {&b}}, 4096);
    CHECK(std::abs(two[0] - 0.75) < 0.02);
  }
  SUBCASE("one has gone while it waited") {
    {
      Queue gone(idle, 8);
      for (uint16_t n = 0; n < 8; n++) gone.accept(n, Kind::read, 4096);
      while (gone.round(kStart) > 0) continue;
      group->set({.operations = {.both = 1000}}, kStart);
    }
    const auto two = shares_of({{&a}, {&b}}, 4096);
    CHECK(std::abs(two[0] - 0.75) < 0.02);
  }
  SUBCASE("a burst is for whoever comes") {
    group->set({.operations = {.both = 1000}, .operations_burst = 4000}, kStart + 10 * kSecond);
    for (Queue* queue : {&a, &b}) {
      for (uint16_t n = 0; n < 8; n++) queue->accept(n, Kind::read, 4096);
      CHECK(queue->round(kStart + 20 * kSecond) == 8);
    }
  }
}

TEST_CASE("limiter: the tightest of several limits holds, and reads do not wait for writes") {
  Queue tight(limits_of({.operations = {.both = 1000, .reads = 100}, .bytes = {.both = 1u << 30}}),
              8);
  const uint64_t ns = flood({&tight}, Kind::read, 4096, 10 * kSecond, 0);
  CHECK(std::abs(error_of(tight.count[Kind::read], 100, 10, ns)) < 0.01);
  Queue queue(limits_of({.operations = {.writes = 1}}), 8);
  for (uint16_t i = 0; i < 8; i++) queue.accept(i, i % 2 == 0 ? Kind::write : Kind::read);
  CHECK(queue.round(kStart) == 5);
  CHECK(queue.count[Kind::read] == 4);
  CHECK(queue.wakes_at_us == (kStart + kSecond) / 1000);
}

TEST_CASE("limiter: a flush goes at once, a discard counts as one however long") {
  Queue queue(limits_of({.operations = {.both = 10}, .bytes = {.both = 4096}}), 8);
  queue.accept(0, Kind::discard, 1u << 30);
  queue.accept(1, Kind::discard, 1u << 30);
  queue.accept(2, Kind::flush);
  CHECK(queue.round(kStart) == 2);
  CHECK(queue.started == std::vector<uint16_t>{2, 0});
  CHECK(queue.wakes_at_us == (kStart + kSecond / 10) / 1000);
  CHECK(queue.round(kStart + kSecond / 10) == 1);
  CHECK(queue.limiter.empty());
  // The bytes were not touched.
  queue.accept(3, Kind::write, 4096);
  CHECK(queue.round(kStart + kSecond) == 1);
}

TEST_CASE("limiter: a barrier waits for what came before, and all that came after waits for it") {
  Queue queue(limits_of({.operations = {.writes = 10}}), 8);
  queue.accept(0, Kind::write);
  queue.accept(1, Kind::write);
  queue.accept(2, Kind::barrier);
  queue.accept(3, Kind::read);
  queue.accept(4, Kind::flush);
  queue.accept(5, Kind::barrier);
  queue.accept(6, Kind::read);
  std::vector<uint16_t> order;
  uint64_t now = kStart;
  for (int i = 0; i < 10 && order.size() < 7; i++) {
    queue.round(now);
    order.insert(order.end(), queue.started.begin(), queue.started.end());
    now += kSecond / 10;
  }
  REQUIRE(order == std::vector<uint16_t>{0, 1, 2, 4, 3, 5, 6});
}

TEST_CASE("limiter: one alarm while it waits, none when it does not") {
  Queue queue(limits_of({.operations = {.both = 1}}), 4);
  queue.accept(0, Kind::read);
  queue.round(kStart);
  CHECK(queue.wakes_at_us == kNever);
  queue.accept(1, Kind::read);
  queue.accept(2, Kind::read);
  queue.round(kStart);
  CHECK(queue.wakes_at_us == (kStart + kSecond) / 1000);
  // Looked at again before its time it sets none anew.
  queue.wakes_at_us = kNever;
  queue.round(kStart + 1);
  CHECK(queue.wakes_at_us == kNever);
  // It has rung: nobody may sleep before it has looked.
  CHECK_FALSE(queue.limiter.is_due());
  queue.alarms.run((kStart + kSecond) / 1000);
  CHECK(queue.limiter.is_due());
  queue.round(kStart + kSecond);
  CHECK_FALSE(queue.limiter.is_due());
  queue.limiter.forget();
  CHECK(queue.limiter.is_due());
}

TEST_CASE("limiter: what it has waited for is counted, and how many wait") {
  Queue queue(limits_of({.operations = {.both = 1}}), 4);
  for (uint16_t i = 0; i < 3; i++) queue.accept(i, Kind::read);
  queue.round(kStart);
  CHECK(queue.counters.waiting_for_tokens.get() == 2);
  CHECK(queue.counters.waited_for_tokens.count() == 0);
  queue.round(kStart + kSecond);
  queue.round(kStart + 2 * kSecond);
  CHECK(queue.counters.waiting_for_tokens.get() == 0);
  CHECK(queue.counters.waited_for_tokens.count() == 2);
  CHECK(queue.counters.waited_for_tokens.sum_us() == 3'000'000);
}

TEST_CASE("limiter: other rates hold at once for what waits") {
  const auto limits = limits_of({.operations = {.both = 1}});
  Queue queue(limits, 4);
  for (uint16_t i = 0; i < 4; i++) queue.accept(i, Kind::read);
  queue.round(kStart);
  limits->set({.operations = {.both = 1000}}, kStart);
  queue.limiter.forget();
  queue.round(kStart);
  CHECK(queue.wakes_at_us <= (kStart + kSecond / 500) / 1000);
}

TEST_CASE("limiter: all that waits can be had back, barriers in their place") {
  Queue queue(limits_of({.operations = {.both = 1}}), 8);
  const Kind kinds[] = {Kind::write, Kind::read, Kind::write, Kind::barrier, Kind::read};
  for (uint16_t i = 0; i < 5; i++) queue.accept(i, kinds[i]);
  queue.round(kStart);
  queue.accept(5, Kind::write);  // not yet looked at
  SlotList all = queue.limiter.take_all(queue.waiting);
  std::vector<uint16_t> order;
  while (Slot* slot = all.pop()) order.push_back(slot->index);
  CHECK(order == std::vector<uint16_t>{0, 2, 3, 4, 5});
  CHECK(queue.limiter.empty());
  CHECK(queue.round(kStart + 10 * kSecond) == 0);
}

}  // namespace
}  // namespace ringdisk
