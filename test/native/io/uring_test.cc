// SPDX-License-Identifier: Apache-2.0
#include "io/uring.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/fd.h"

namespace ringdisk {
namespace {

using Milliseconds = std::chrono::milliseconds;

bool has_uring() {
  const UringFeatures features = probe_uring();
  if (!features.available) MESSAGE("skipped: no io_uring: ", std::strerror(features.error));
  return features.available;
}

// The least a kernel can offer: everything above it is an optimisation the code must not need.
UringFeatures plain_features() {
  UringFeatures features;
  features.available = true;
  features.setup_flags = IORING_SETUP_CQSIZE;
  return features;
}

void with_best_and_plain(void (*check)(const UringFeatures&)) {
  if (!has_uring()) return;
  SUBCASE("best features") { check(probe_uring()); }
  SUBCASE("plain") { check(plain_features()); }
}

void reserve_nop(Uring& uring, Operation& operation) {
  uring.reserve_for(operation)->opcode = IORING_OP_NOP;
}

// Reaps until `expected` operations came back; returns them in order.
std::vector<Operation*> reap_all(Uring& uring, size_t expected) {
  std::vector<Operation*> operations;
  while (operations.size() < expected) {
    uring.sleep(UINT64_MAX);
    for (Operation* each = uring.reap().operations; each != nullptr; each = each->next) {
      operations.push_back(each);
    }
  }
  return operations;
}

void check_many_operations(const UringFeatures& features) {
  Uring uring(features);
  // More than both queues hold: reserving has to submit, and completions have to overflow.
  std::vector<Operation> operations(10'000);
  for (Operation& operation : operations) reserve_nop(uring, operation);
  const std::vector<Operation*> done = reap_all(uring, operations.size());
  REQUIRE(done.size() == operations.size());
  for (size_t i = 0; i < done.size(); i++) REQUIRE(done[i] == &operations[i]);
  CHECK(uring.counters().submissions == operations.size());
  CHECK(uring.reap().operations == nullptr);
}

void check_watch(const UringFeatures& features) {
  Uring uring(features);
  const Fd mailbox = Fd::checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  const Fd events = Fd::checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  uring.watch(mailbox.get(), Wakeup::mailbox);
  uring.watch(events.get(), Wakeup::event_channel);
  for (int round = 0; round < 100; round++) {
    const bool use_mailbox = round % 3 != 0;
    eventfd_t value = 0;
    eventfd_write(use_mailbox ? mailbox.get() : events.get(), 1);
    uring.sleep(UINT64_MAX);
    const Uring::Reaped reaped = uring.reap();
    CHECK(reaped.mailbox == use_mailbox);
    CHECK(reaped.event_channel == !use_mailbox);
    eventfd_read(use_mailbox ? mailbox.get() : events.get(), &value);
  }
  uring.sleep(1000);
  CHECK_FALSE(uring.reap().mailbox);
}

TEST_CASE("uring: more operations than the queues hold all come back, in order") {
  with_best_and_plain(check_many_operations);
}

TEST_CASE("uring: a watched descriptor reports every time") { with_best_and_plain(check_watch); }

TEST_CASE("uring: a watch survives the overflow of the completion queue") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  const Fd mailbox = Fd::checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  uring.watch(mailbox.get(), Wakeup::mailbox);
  std::vector<Operation> operations(10'000);
  for (Operation& operation : operations) {
    reserve_nop(uring, operation);
    eventfd_write(mailbox.get(), 1);
  }
  reap_all(uring, operations.size());
  eventfd_t value = 0;
  eventfd_read(mailbox.get(), &value);
  uring.sleep(1000);
  uring.reap();
  eventfd_write(mailbox.get(), 1);
  uring.sleep(1'000'000);
  CHECK(uring.reap().mailbox);
}

// inotify is read as /dev/xen/evtchn is: through read() alone, without a file position.
void check_read_when_readable(const UringFeatures& features) {
  Uring uring(features);
  const Fd watch = Fd::checked(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify");
  REQUIRE(inotify_add_watch(watch.get(), "/proc/self/exe", IN_OPEN) >= 0);
  std::array<std::byte, 256> buffer;
  for (int round = 0; round < 100; round++) {
    uring.read_when_readable(watch.get(), buffer, Wakeup::event_channel);
    // There is something before the kernel looks for the first time, or after.
    if (round % 2 == 0) uring.sleep(1000);
    CHECK_FALSE(uring.reap().event_channel);
    const Fd opened = Fd::checked(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "open");
    uring.sleep(UINT64_MAX);
    const Uring::Reaped reaped = uring.reap();
    CHECK(reaped.event_channel);
    REQUIRE(reaped.event_bytes >= sizeof(inotify_event));
    CHECK(reinterpret_cast<const inotify_event*>(buffer.data())->mask == IN_OPEN);
  }
}

void check_write(const UringFeatures& features) {
  Uring uring(features);
  std::array<int, 2> ends;
  REQUIRE(pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) == 0);
  const Fd from(ends[0]);
  const Fd to(ends[1]);
  // More than one submission holds.
  constexpr uint32_t kWords = 3000;
  for (uint32_t i = 0; i < kWords; i++) uring.write(to.get(), i);
  uring.submit();
  CHECK(uring.reap().operations == nullptr);
  std::vector<uint32_t> words(kWords + 1);
  REQUIRE(read(from.get(), words.data(), words.size() * 4) == kWords * 4);
  for (uint32_t i = 0; i < kWords; i++) REQUIRE(words[i] == i);
}

void check_alarm(const UringFeatures& features) {
  Uring uring(features);
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t now_us = static_cast<uint64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
  uring.wake_at(now_us + 3'600'000'000);
  uring.wake_at(now_us + 20'000);
  const auto start = std::chrono::steady_clock::now();
  // The end of another ring of this thread may end a sleep, too.
  bool rang = false;
  for (int sleeps = 0; sleeps < 10 && !rang; sleeps++) {
    uring.sleep(UINT64_MAX);
    rang = uring.reap().alarm;
  }
  CHECK(rang);
  CHECK(std::chrono::steady_clock::now() - start >= Milliseconds(18));
  uring.sleep(1000);
  CHECK_FALSE(uring.reap().alarm);
}

TEST_CASE("uring: a descriptor is read when there is something") {
  with_best_and_plain(check_read_when_readable);
}

TEST_CASE("uring: a word is written with the next submission, and not answered") {
  with_best_and_plain(check_write);
}

TEST_CASE("uring: an alarm ends a sleep without a time-out, once") {
  with_best_and_plain(check_alarm);
}

TEST_CASE("uring: submitting nothing costs no system call") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  uring.submit();
  CHECK(uring.counters().enter_calls == 0);
  Operation operation{};
  reserve_nop(uring, operation);
  uring.submit();
  CHECK(uring.counters().enter_calls == 1);
  CHECK(uring.reap().operations == &operation);
  uring.submit();
  CHECK(uring.counters().enter_calls == 1);
}

TEST_CASE("uring: submit runs deferred kernel work without anything reserved") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  if (!uring.features().defer_taskrun) return;
  const Fd mailbox = Fd::checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  uring.watch(mailbox.get(), Wakeup::mailbox);
  uring.submit();
  eventfd_write(mailbox.get(), 1);
  CHECK_FALSE(uring.reap().mailbox);
  uring.submit();
  CHECK(uring.reap().mailbox);
}

TEST_CASE("uring: sleep ends at its time-out and not before") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  const auto start = std::chrono::steady_clock::now();
  uring.sleep(20'000);
  CHECK(std::chrono::steady_clock::now() - start >= Milliseconds(19));
  CHECK(uring.counters().sleeps == 1);
}

TEST_CASE("uring: sleep returns at once while something is waiting to be reaped") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  Operation operation{};
  reserve_nop(uring, operation);
  uring.submit();
  const auto start = std::chrono::steady_clock::now();
  uring.sleep(10'000'000);
  CHECK(std::chrono::steady_clock::now() - start < Milliseconds(5000));
  CHECK(uring.reap().operations == &operation);
}

TEST_CASE("uring: reserved entries are zeroed but for a big one's second half") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  std::vector<Operation> operations(2000);
  const io_uring_sqe zeros{};
  for (Operation& operation : operations) {
    io_uring_sqe* sqe = uring.reserve();
    REQUIRE(std::memcmp(sqe, &zeros, sizeof zeros) == 0);
    // Whatever is left there, the kernel looks at it for commands alone.
    if (uring.features().big_entries) std::memset(sqe + 1, 0xff, sizeof(*sqe));
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = reinterpret_cast<uint64_t>(&operation);
  }
  reap_all(uring, operations.size());
}

TEST_CASE("uring: transfers use registered memory") {
  if (!has_uring()) return;
  Uring uring(probe_uring());
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(4096, 8192), std::free);
  auto* bytes = static_cast<std::byte*>(memory.get());
  if (!uring.register_buffer({bytes, 8192})) {
    MESSAGE("skipped: the kernel refuses registered memory here");
    return;
  }
  const Fd zero = Fd::checked(open("/dev/zero", O_RDONLY | O_CLOEXEC), "/dev/zero");
  std::memset(bytes, 0xff, 8192);
  Operation operation{};
  io_uring_prep_read_fixed(uring.reserve_for(operation), zero.get(), bytes + 4096, 512, 0, 0);
  reap_all(uring, 1);
  CHECK(operation.part_result == 512);
  CHECK(bytes[4095] == std::byte{0xff});
  CHECK(bytes[4096 + 511] == std::byte{0});
  CHECK(bytes[4096 + 512] == std::byte{0xff});
}

}  // namespace
}  // namespace ringdisk
