// SPDX-License-Identifier: Apache-2.0
// What every target must do, run on every kind that this machine can offer. Real devices are used,
// and overwritten, only when named: RINGDISK_TEST_BLOCK=/dev/... and RINGDISK_TEST_NVME=/dev/ng...
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/units.h"
#include "nbd_servers.h"
#include "target_driver.h"
#include "targets/target.h"
#include "test_media.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
constexpr uint64_t kCapacity = 80 * kMebibyte;  // discards take several parts

struct Subject {
  Target& target;
  TargetDriver driver;
  bool keeps_data;  // the null target does not

  Subject(Target& subject, bool keeps) : target(subject), driver(subject), keeps_data(keeps) {}
};

void check_round_trip(Subject& subject, uint64_t offset, size_t bytes) {
  CAPTURE(offset);
  CAPTURE(bytes);
  TestMemory memory(bytes);
  const auto seed = static_cast<uint32_t>(offset / kSectorBytes + bytes);
  memory.fill(seed);
  CHECK(subject.driver.write(offset, memory) == 0);
  CHECK(subject.driver.read(offset, memory) == 0);
  CHECK(subject.keeps_data ? memory.matches(seed) : memory.is_zero());
}

void check_transfers(Subject& subject) {
  const Capabilities& can = subject.target.capabilities();
  const size_t unit = can.io_alignment;
  for (const size_t bytes : {unit, 8 * unit, size_t{45056}, size_t{128} * 1024}) {
    check_round_trip(subject, 0, bytes);
    check_round_trip(subject, 7 * unit, bytes);
    check_round_trip(subject, can.capacity - bytes, bytes);
  }
  check_round_trip(subject, kMebibyte, kMebibyte);
  check_round_trip(subject, kMebibyte + unit, kMebibyte);
}

// What came before and after a write is untouched, also when it is the smallest possible.
void check_neighbours(Subject& subject) {
  if (!subject.keeps_data) return;
  const uint64_t unit = subject.target.capabilities().io_alignment;
  TestMemory around(3 * unit);
  TestMemory middle(unit);
  around.fill(1);
  middle.fill(2);
  REQUIRE(subject.driver.write(0, around) == 0);
  REQUIRE(subject.driver.write(unit, middle) == 0);
  REQUIRE(subject.driver.read(0, around) == 0);
  TestMemory expected(3 * unit);
  expected.fill(1);
  CHECK(std::memcmp(around.bytes().data(), expected.bytes().data(), unit) == 0);
  CHECK(std::memcmp(around.bytes().data() + 2 * unit, expected.bytes().data() + 2 * unit, unit) ==
        0);
  REQUIRE(subject.driver.read(unit, middle) == 0);
  CHECK(middle.matches(2));
}

void check_registered_memory(Subject& subject) {
  TestMemory memory(kMebibyte);
  if (!subject.driver.uring().register_buffer(memory.bytes())) {
    MESSAGE("skipped: the kernel refuses registered memory here");
    return;
  }
  for (const auto kind : {Operation::Kind::write, Operation::Kind::read}) {
    if (kind == Operation::Kind::write) memory.fill(77);
    if (kind == Operation::Kind::read) memory.clear();
    Operation operation = TargetDriver::transfer(kind, 4096, memory);
    operation.registered = true;
    CHECK(subject.driver.run(operation) == 0);
  }
  CHECK(subject.keeps_data ? memory.matches(77) : memory.is_zero());
}

void check_discard(Subject& subject) {
  const Capabilities& can = subject.target.capabilities();
  if (!can.discard) {
    CHECK(subject.driver.discard(0, kMebibyte) == -EOPNOTSUPP);
    return;
  }
  CHECK(can.discard_granularity >= can.io_alignment);
  CHECK(can.discard_alignment < can.discard_granularity);
  TestMemory memory(kMebibyte);
  for (const uint64_t offset : {uint64_t{0}, kMebibyte, 2 * kMebibyte}) {
    memory.fill(static_cast<uint32_t>(offset));
    REQUIRE(subject.driver.write(offset, memory) == 0);
  }
  CHECK(subject.driver.discard(kMebibyte, kMebibyte) == 0);
  CHECK(subject.driver.read(kMebibyte, memory) == 0);
  CHECK(memory.is_zero());
  if (subject.keeps_data) {
    for (const uint64_t offset : {uint64_t{0}, 2 * kMebibyte}) {
      CHECK(subject.driver.read(offset, memory) == 0);
      CHECK(memory.matches(static_cast<uint32_t>(offset)));
    }
  }
  const uint64_t whole = std::min(can.capacity, kCapacity);
  CHECK(subject.driver.discard(0, whole) == 0);
  CHECK(subject.driver.read(0, memory) == 0);
  CHECK(memory.is_zero());
}

void check_contract(const TargetSpec& spec, bool keeps_data = true) {
  const std::unique_ptr<Target> target = open_target(spec);
  Subject subject(*target, keeps_data);
  const Capabilities& can = target->capabilities();
  CHECK(can.capacity % kSectorBytes == 0);
  CHECK((can.io_alignment == 512 || can.io_alignment == 4096));
  CHECK_FALSE(can.read_only);
  check_transfers(subject);
  check_neighbours(subject);
  check_registered_memory(subject);
  CHECK(subject.driver.flush() == 0);
  check_discard(subject);
  if (!can.secure_discard) CHECK(subject.driver.discard(0, kMebibyte, true) == -EOPNOTSUPP);
  measure_now(*target);
  CHECK(can.capacity % kSectorBytes == 0);
}

TEST_CASE("target contract: file on the disk of temporary files") {
  if (!has_uring()) return;
  const TempFile file(disk_folder(), kCapacity);
  check_contract({"file", file.path()});
}

TEST_CASE("target contract: file on tmpfs") {
  if (!has_uring()) return;
  if (!is_tmpfs("/dev/shm")) {
    MESSAGE("skipped: /dev/shm is no tmpfs");
    return;
  }
  const TempFile file("/dev/shm", kCapacity);
  check_contract({"file", file.path()});
}

TEST_CASE("target contract: block device") {
  if (!has_uring()) return;
  for (const uint32_t block_bytes : {512u, 4096u}) {
    CAPTURE(block_bytes);
    const std::optional<LoopDevice> loop = LoopDevice::create(kCapacity, block_bytes);
    if (!loop) return;
    check_contract({"block", loop->path()});
  }
}

TEST_CASE("target contract: null") {
  if (!has_uring()) return;
  check_contract({"null", std::to_string(kCapacity)}, false);
}

TEST_CASE("target contract: nbdkit, from memory") {
  if (!has_uring() || !has_program("nbdkit")) return;
  const std::string size = std::to_string(kCapacity);
  const NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"nbdkit", "-f", "-U", socket, "memory", size};
  });
  check_contract({"nbd", server.socket()});
}

// In each of the ways that filters make its plugin answer.
TEST_CASE("target contract: nbdkit, from a file") {
  if (!has_uring() || !has_program("nbdkit")) return;
  const std::vector<std::vector<std::string>> all = {
      {},
      {"--filter=noextents"},
      {"--filter=noparallel", "serialize=connections"},
      {"--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-preferred=4096",
       "blocksize-maximum=64K", "blocksize-error-policy=error"},
      {"--filter=blocksize-policy", "blocksize-minimum=512", "blocksize-preferred=64K",
       "blocksize-maximum=128K", "blocksize-error-policy=error"},
      {"--filter=delay", "rdelay=1ms", "wdelay=1ms"},
      {"--filter=multi-conn", "multi-conn-mode=disable"}};
  for (const std::vector<std::string>& more : all) {
    CAPTURE(more.empty() ? "" : more[0]);
    const TempFile file(disk_folder(), kCapacity);
    const NbdServerProcess server([&](const std::string& socket) {
      std::vector<std::string> command = {"nbdkit", "-f", "-U", socket};
      if (!more.empty()) command.push_back(more[0]);
      command.insert(command.end(), {"file", file.path()});
      if (!more.empty()) command.insert(command.end(), more.begin() + 1, more.end());
      return command;
    });
    check_contract({"nbd", server.socket()});
  }
}

TEST_CASE("target contract: qemu-storage-daemon") {
  if (!has_uring() || !has_program("qemu-storage-daemon")) return;
  const TempFile file(disk_folder(), kCapacity);
  const NbdServerProcess server([&](const std::string& socket) -> std::vector<std::string> {
    return {"qemu-storage-daemon",
            "--blockdev",
            "file,node-name=disk,discard=unmap,filename=" + file.path(),
            "--nbd-server",
            "addr.type=unix,addr.path=" + socket,
            "--export",
            "nbd,id=disk,node-name=disk,name=a disk,writable=on"};
  });
  check_contract({"nbd", server.socket() + ":exportname=a disk"});
}

TEST_CASE("target contract: a named block device") {
  const char* path = std::getenv("RINGDISK_TEST_BLOCK");
  if (path == nullptr) return skip("RINGDISK_TEST_BLOCK names no device to overwrite");
  check_contract({"block", path});
}

TEST_CASE("target contract: a named NVMe generic device") {
  const char* path = std::getenv("RINGDISK_TEST_NVME");
  if (path == nullptr) return skip("RINGDISK_TEST_NVME names no device to overwrite");
  check_contract({"nvme", path});
}

}  // namespace
}  // namespace ringdisk
