// SPDX-License-Identifier: Apache-2.0
#include "targets/split_channel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace ringdisk {
namespace {

constexpr uint64_t kPart = 128 << 10;
constexpr uint64_t kWhole = 1 << 20;

// Keeps what it is given until the test says what became of it.
struct Device {
  std::vector<Operation*> given;
  size_t most = 0;       // at a time
  bool at_once = false;  // finishes in start(), with `result`
  int32_t result = 0;
  bool closed = false;
};

class DeviceChannel final : public TargetChannel {
 public:
  explicit DeviceChannel(Device& device) : device_(device) {}
  bool start(Operation& operation) override {
    device_.given.push_back(&operation);
    device_.most = std::max(device_.most, device_.given.size());
    if (!device_.at_once) return false;
    device_.given.pop_back();
    operation.result = device_.result;
    return true;
  }
  bool advance(Operation&, int32_t) override { return true; }
  void close(std::function<void()> done) override {
    device_.closed = true;
    done();
  }

 private:
  Device& device_;
};

struct Asker final : OperationSink {
  std::vector<Operation*> told;
  void finished(Operation& operation) override { told.push_back(&operation); }
};

struct Fixture {
  Device device;
  Asker asker;
  SplitChannel channel;
  std::vector<std::byte> memory = std::vector<std::byte>(kWhole);

  explicit Fixture(size_t parts_max = 64)
      : channel(std::make_unique<DeviceChannel>(device), kPart, parts_max) {}

  Operation make(Operation::Kind kind, uint64_t length = kWhole) {
    Operation operation{};
    operation.kind = kind;
    operation.offset = 5 * kPart;
    operation.length = length;
    operation.memory = memory.data();
    operation.registered = true;
    operation.channel = &channel;
    operation.sink = &asker;
    return operation;
  }
  // The device is done with the `index`th that it has.
  void finish(size_t index, int32_t result = 0) {
    Operation& part = *device.given[index];
    device.given.erase(device.given.begin() + static_cast<ptrdiff_t>(index));
    part.result = result;
    part.sink->finished(part);
  }
};

TEST_CASE("split channel: the parts of a request are under way together") {
  Fixture fixture;
  Operation whole = fixture.make(Operation::Kind::write);
  REQUIRE_FALSE(fixture.channel.start(whole));
  REQUIRE(fixture.device.given.size() == 8);
  uint64_t at = 0;
  for (const Operation* part : fixture.device.given) {
    CHECK(part->kind == Operation::Kind::write);
    CHECK(part->offset == whole.offset + at);
    CHECK(part->memory == whole.memory + at);
    CHECK(part->length == kPart);
    CHECK(part->registered);
    at += part->length;
  }
  CHECK(at == kWhole);
  // In any order, and told once.
  while (fixture.device.given.size() > 1) fixture.finish(fixture.device.given.size() / 2);
  CHECK(fixture.asker.told.empty());
  fixture.finish(0);
  CHECK(fixture.asker.told == std::vector{&whole});
  CHECK(whole.result == 0);
}

TEST_CASE("split channel: what the device takes at once is handed on as it is") {
  Fixture fixture;
  for (auto kind : {Operation::Kind::read, Operation::Kind::flush, Operation::Kind::discard}) {
    Operation one = fixture.make(kind, kind == Operation::Kind::discard ? kWhole : kPart);
    REQUIRE_FALSE(fixture.channel.start(one));
    CHECK(fixture.device.given == std::vector{&one});
    CHECK(one.channel != &fixture.channel);  // what comes back is the device's
    CHECK(one.sink == &fixture.asker);
    fixture.finish(0);
  }
}

TEST_CASE("split channel: an odd end is a part of its own") {
  Fixture fixture;
  Operation whole = fixture.make(Operation::Kind::read, 2 * kPart + 512);
  REQUIRE_FALSE(fixture.channel.start(whole));
  REQUIRE(fixture.device.given.size() == 3);
  CHECK(fixture.device.given[2]->length == 512);
  while (!fixture.device.given.empty()) fixture.finish(0);
  CHECK(whole.result == 0);
}

TEST_CASE("split channel: the first error is the result, told when no part is under way") {
  Fixture fixture;
  Operation whole = fixture.make(Operation::Kind::read);
  REQUIRE_FALSE(fixture.channel.start(whole));
  fixture.finish(3, -EIO);
  fixture.finish(0, -ENOSPC);
  CHECK(fixture.asker.told.empty());
  while (!fixture.device.given.empty()) fixture.finish(0);
  CHECK(fixture.asker.told == std::vector{&whole});
  CHECK(whole.result == -EIO);
  // The next use of the same operation knows nothing of it.
  REQUIRE_FALSE(fixture.channel.start(whole));
  while (!fixture.device.given.empty()) fixture.finish(0);
  CHECK(whole.result == 0);
}

TEST_CASE("split channel: no more parts than allowed, the oldest request first") {
  Fixture fixture(5);
  std::vector<Operation> wholes;
  for (int i = 0; i < 4; i++) wholes.push_back(fixture.make(Operation::Kind::write));
  for (Operation& whole : wholes) REQUIRE_FALSE(fixture.channel.start(whole));
  CHECK(fixture.device.given.size() == 5);
  Operation small = fixture.make(Operation::Kind::write, 4096);
  REQUIRE_FALSE(fixture.channel.start(small));  // needs no part
  CHECK(fixture.device.given.back() == &small);
  fixture.finish(5);
  while (!fixture.device.given.empty()) fixture.finish(0);
  CHECK(fixture.device.most == 6);
  const std::vector<Operation*> told = {&small, &wholes[0], &wholes[1], &wholes[2], &wholes[3]};
  CHECK(fixture.asker.told == told);
  for (const Operation& whole : wholes) CHECK(whole.result == 0);
}

TEST_CASE("split channel: after an error no further part begins") {
  Fixture fixture(4);
  Operation first = fixture.make(Operation::Kind::write);
  Operation second = fixture.make(Operation::Kind::write);
  REQUIRE_FALSE(fixture.channel.start(first));
  REQUIRE_FALSE(fixture.channel.start(second));
  fixture.finish(0, -EIO);  // half of the first has begun
  CHECK(fixture.device.given.size() == 4);
  CHECK(std::ranges::count(fixture.device.given, &second, &Operation::owner) == 1);
  for (int i = 0; i < 3; i++) fixture.finish(0);
  CHECK(fixture.asker.told == std::vector{&first});
  while (!fixture.device.given.empty()) fixture.finish(0);
  CHECK(fixture.asker.told == std::vector{&first, &second});
  CHECK(first.result == -EIO);
  CHECK(second.result == 0);
}

TEST_CASE("split channel: one that waits and fails with its last part is told, once") {
  Fixture fixture(3);
  Operation first = fixture.make(Operation::Kind::write, 2 * kPart);
  Operation second = fixture.make(Operation::Kind::write);
  REQUIRE_FALSE(fixture.channel.start(first));
  REQUIRE_FALSE(fixture.channel.start(second));  // one part of it
  fixture.finish(2, -EIO);
  CHECK(fixture.asker.told == std::vector{&second});
  fixture.finish(0);
  fixture.finish(0);
  CHECK(fixture.asker.told == std::vector{&second, &first});
}

TEST_CASE("split channel: a device that is done at once") {
  Fixture fixture(2);
  fixture.device.at_once = true;
  Operation whole = fixture.make(Operation::Kind::read);
  CHECK(fixture.channel.start(whole));
  CHECK(whole.result == 0);
  fixture.device.result = -EROFS;
  CHECK(fixture.channel.start(whole));
  CHECK(whole.result == -EROFS);
  CHECK(fixture.asker.told.empty());  // start() has said it
}

TEST_CASE("split channel: its end is that of the channel behind it") {
  Fixture fixture;
  bool done = false;
  fixture.channel.close([&] { done = true; });
  CHECK(fixture.device.closed);
  CHECK(done);
}

}  // namespace
}  // namespace ringdisk
