// SPDX-License-Identifier: Apache-2.0
#include "io/offload.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <array>
#include <semaphore>
#include <string>
#include <vector>

namespace ringdisk {
namespace {

int32_t echo_slot(const Operation& operation, int fd) {
  return static_cast<int32_t>(operation.slot_index) + fd;
}

int32_t name_length(const Operation&, int) {
  std::array<char, 16> name{};
  pthread_getname_np(pthread_self(), name.data(), name.size());
  return std::string(name.data()) == "rd-offload" ? 1 : -1;
}

TEST_CASE("offload: every part comes back once, in order, with its result") {
  std::counting_semaphore<> finished(0);
  Offload offload([&] { finished.release(); });
  std::vector<Operation> operations(500);
  for (uint32_t i = 0; i < operations.size(); i++) {
    operations[i].slot_index = i;
    offload.submit(operations[i], echo_slot, 7);
  }
  for (size_t i = 0; i < operations.size(); i++) finished.acquire();
  uint32_t count = 0;
  for (Operation* each = offload.collect(); each != nullptr; each = each->next) {
    CHECK(each->slot_index == count);
    CHECK(each->part_result == static_cast<int32_t>(count) + 7);
    count++;
  }
  CHECK(count == operations.size());
  CHECK(offload.collect() == nullptr);
}

TEST_CASE("offload: an operation can be submitted again after it was collected") {
  std::counting_semaphore<> finished(0);
  Offload offload([&] { finished.release(); });
  Operation operation{};
  for (uint32_t round = 0; round < 100; round++) {
    operation.slot_index = round;
    offload.submit(operation, echo_slot, 0);
    finished.acquire();
    REQUIRE(offload.collect() == &operation);
    CHECK(operation.part_result == static_cast<int32_t>(round));
  }
}

TEST_CASE("offload: its thread has a name") {
  std::counting_semaphore<> finished(0);
  Offload offload([&] { finished.release(); });
  Operation operation{};
  offload.submit(operation, name_length, -1);
  finished.acquire();
  REQUIRE(offload.collect() == &operation);
  CHECK(operation.part_result == 1);
}

TEST_CASE("offload: unused, it starts nothing and ends at once") {
  Offload offload([] {});
  CHECK(offload.collect() == nullptr);
}

}  // namespace
}  // namespace ringdisk
