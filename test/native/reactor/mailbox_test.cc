// SPDX-License-Identifier: Apache-2.0
#include "reactor/mailbox.h"

#include <doctest/doctest.h>
#include <poll.h>

#include <thread>
#include <vector>

#include "protocol/limits.h"

namespace ringdisk {
namespace {

bool readable(const Mailbox& mailbox) {
  pollfd fd{mailbox.fd(), POLLIN, 0};
  return ::poll(&fd, 1, 0) == 1;
}

TEST_CASE("mailbox: commands come out in order, once") {
  Mailbox mailbox;
  std::vector<int> ran;
  for (int i = 0; i < 3; i++) CHECK(mailbox.post([&ran, i] { ran.push_back(i); }));
  for (const auto& command : mailbox.take()) command();
  CHECK(ran == std::vector<int>{0, 1, 2});
  CHECK(mailbox.take().empty());
}

TEST_CASE("mailbox: is readable while something waits, and not afterwards") {
  Mailbox mailbox;
  CHECK_FALSE(readable(mailbox));
  mailbox.post([] {});
  mailbox.post([] {});
  CHECK(readable(mailbox));
  mailbox.take();
  CHECK_FALSE(readable(mailbox));
  mailbox.wake();
  CHECK(readable(mailbox));
  CHECK(mailbox.take().empty());
  CHECK_FALSE(readable(mailbox));
}

TEST_CASE("mailbox: refuses what is beyond its bound and goes on afterwards") {
  Mailbox mailbox;
  for (uint32_t i = 0; i < kMailboxMax; i++) REQUIRE(mailbox.post([] {}));
  CHECK_FALSE(mailbox.post([] {}));
  CHECK(mailbox.take().size() == kMailboxMax);
  CHECK(mailbox.post([] {}));
}

TEST_CASE("mailbox: nothing posted from many threads is lost, and each thread's order holds") {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  Mailbox mailbox;
  std::vector<std::vector<int>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; i++) mailbox.post([&seen, t, i] { seen[t].push_back(i); });
    });
  size_t ran = 0;
  while (ran < size_t{kThreads} * kEach) {
    pollfd fd{mailbox.fd(), POLLIN, 0};
    REQUIRE(::poll(&fd, 1, 10'000) == 1);
    for (const auto& command : mailbox.take()) {
      command();
      ran++;
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<int>& one : seen) {
    REQUIRE(one.size() == kEach);
    for (int i = 0; i < kEach; i++) REQUIRE(one[static_cast<size_t>(i)] == i);
  }
}

}  // namespace
}  // namespace ringdisk
