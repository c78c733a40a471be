// SPDX-License-Identifier: Apache-2.0
// What the loopback machine's grants do beyond the contract (contract/): the guest's view of them,
// and files that are not what they should be.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <vector>

#include "platform/loopback/domain.h"
#include "platform/loopback/loopback_platform.h"
#include "temp_machine.h"

namespace ringdisk {
namespace {

constexpr Domid kDomid = 7;
constexpr GrantRef kNeverGranted = 1;
constexpr GrantRef kBeyondTheTable = 0x7fffffff;

struct Fixture {
  TempMachine machine;
  LoopbackDomain guest{machine.dir(), kDomid, 64};
  std::unique_ptr<Platform> platform = make_loopback_platform(machine.dir());
  std::unique_ptr<GrantTable> grants = platform->open_grant_table();

  int map(std::span<const GrantRef> grefs, bool writable, GrantMapping& mapping) {
    return grants->map(kDomid, grefs, writable, mapping);
  }
};

GrantCopy from_guest(GrantRef gref, std::byte* local, uint16_t offset, uint16_t length) {
  return {local, gref, offset, length, kDomid, false, false};
}

GrantCopy to_guest(GrantRef gref, std::byte* local, uint16_t offset, uint16_t length) {
  return {local, gref, offset, length, kDomid, true, false};
}

TEST_CASE_FIXTURE(Fixture, "maps nothing when one of the grefs was never granted") {
  const GrantRef good = guest.grant(guest.allocate_page());
  for (const GrantRef bad :
       {kNeverGranted, kBeyondTheTable, std::numeric_limits<GrantRef>::max()}) {
    GrantMapping mapping;
    CHECK(map(std::array{good, bad}, true, mapping) == -EINVAL);
    CHECK(mapping.address == nullptr);
    CHECK(guest.grants_in_use() == 0);
  }
}

TEST_CASE_FIXTURE(Fixture, "counts each mapping of the same grant") {
  const GrantRef gref = guest.grant(guest.allocate_page());
  GrantMapping first;
  GrantMapping second;
  REQUIRE(map(std::array{gref}, true, first) == 0);
  REQUIRE(map(std::array{gref, gref}, true, second) == 0);
  grants->unmap(second);
  CHECK(guest.in_use(gref));
  grants->unmap(first);
  CHECK_FALSE(guest.in_use(gref));
}

TEST_CASE_FIXTURE(Fixture,
                  "a grant revoked while mapped stays mapped and is not handed out again") {
  const uint32_t page = guest.allocate_page();
  const GrantRef gref = guest.grant(page);
  GrantMapping mapping;
  REQUIRE(map(std::array{gref}, true, mapping) == 0);
  CHECK_FALSE(guest.revoke(gref));
  guest.page(page)[1] = std::byte{9};
  CHECK(mapping.address[1] == std::byte{9});
  GrantMapping again;
  CHECK(map(std::array{gref}, true, again) == -EINVAL);
  CHECK(guest.grant(page) != gref);
  grants->unmap(mapping);
  CHECK(guest.grants_in_use() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a revoked gref is handed out again") {
  const GrantRef gref = guest.grant(guest.allocate_page());
  CHECK(guest.revoke(gref));
  CHECK(guest.grant(guest.allocate_page()) == gref);
}

TEST_CASE_FIXTURE(Fixture, "one bad copy fails alone") {
  const GrantRef writable = guest.grant(guest.allocate_page());
  const GrantRef readonly = guest.grant(guest.allocate_page(), true);
  std::array<std::byte, kPageBytes> local{};
  std::array batch{
      from_guest(kNeverGranted, local.data(), 0, 512),
      to_guest(readonly, local.data(), 0, 512),
      from_guest(writable, local.data(), kPageBytes - 511, 512),
      from_guest(writable, local.data(), 65535, 65535),
      from_guest(kBeyondTheTable, local.data(), 0, 1),
      from_guest(readonly, local.data(), 0, kPageBytes),
  };
  grants->copy(batch);
  for (size_t i = 0; i < 5; i++) CHECK_FALSE(batch[i].ok);
  CHECK(batch[5].ok);
  CHECK(guest.grants_in_use() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a table that goes away gives everything back") {
  const GrantRef gref = guest.grant(guest.allocate_page());
  GrantMapping mapping;
  REQUIRE(map(std::array{gref}, true, mapping) == 0);
  grants.reset();
  CHECK(guest.grants_in_use() == 0);
}

TEST_CASE("a mapping outlives the guest, and the next guest of that domid is a new one") {
  TempMachine machine;
  const auto grants = make_loopback_platform(machine.dir())->open_grant_table();
  auto guest = std::make_unique<LoopbackDomain>(machine.dir(), kDomid, 8);
  const GrantRef gref = guest->grant(guest->allocate_page());
  guest->page(0)[0] = std::byte{1};
  GrantMapping mapping;
  REQUIRE(grants->map(kDomid, std::array{gref}, true, mapping) == 0);
  guest.reset();
  CHECK(mapping.address[0] == std::byte{1});
  grants->unmap(mapping);

  guest = std::make_unique<LoopbackDomain>(machine.dir(), kDomid, 8);
  const GrantRef fresh = guest->grant(guest->allocate_page());
  guest->page(0)[0] = std::byte{2};
  REQUIRE(grants->map(kDomid, std::array{fresh}, true, mapping) == 0);
  CHECK(mapping.address[0] == std::byte{2});
  grants->unmap(mapping);
}

TEST_CASE_FIXTURE(Fixture, "an entry that names a page outside the guest's memory is refused") {
  std::fstream file(grants_path(domain_dir(machine.dir(), kDomid)),
                    std::ios::in | std::ios::out | std::ios::binary);
  const uint32_t hostile[2] = {GrantEntry::kGranted, 64};
  file.seekp(20 * sizeof(GrantEntry));
  file.write(reinterpret_cast<const char*>(hostile), sizeof(hostile));
  file.close();
  GrantMapping mapping;
  CHECK(map(std::array{GrantRef{20}}, true, mapping) == -EINVAL);
  std::array<std::byte, 8> local{};
  std::array batch{from_guest(20, local.data(), 0, 8)};
  grants->copy(batch);
  CHECK_FALSE(batch[0].ok);
  CHECK(guest.grants_in_use() == 0);
}

TEST_CASE("hostile files in a domain's folder are refused") {
  TempMachine machine;
  const auto grants = make_loopback_platform(machine.dir())->open_grant_table();
  const std::string dir = domain_dir(machine.dir(), kDomid);
  std::filesystem::create_directory(dir);
  GrantMapping mapping;
  const auto map = [&] { return grants->map(kDomid, std::array{GrantRef{8}}, true, mapping); };

  SUBCASE("empty memory") { std::ofstream file(memory_path(dir)); }
  SUBCASE("memory is a FIFO") { REQUIRE(::mkfifo(memory_path(dir).c_str(), 0600) == 0); }
  SUBCASE("memory is a symbolic link") {
    std::filesystem::create_symlink("/dev/zero", memory_path(dir));
  }
  SUBCASE("a grant table of less than one entry") {
    std::ofstream(memory_path(dir)).close();
    std::filesystem::resize_file(memory_path(dir), kPageBytes);
    std::ofstream(grants_path(dir)) << "short";
  }
  CHECK(map() < 0);
  CHECK(mapping.address == nullptr);
}

TEST_CASE("a machine folder that is not there is reported") {
  CHECK_THROWS_AS(make_loopback_platform("/nonexistent/machine"), std::system_error);
}

}  // namespace
}  // namespace ringdisk
