// SPDX-License-Identifier: Apache-2.0
// What every GrantTable must do.
#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <memory>
#include <vector>

#include "peer.h"

namespace ringdisk {
namespace {

// No domain of any test has so many grants.
constexpr GrantRef kNeverGranted = 0x7fff'ffff;
constexpr Domid kNobody = 4711;

struct Fixture {
  std::unique_ptr<Peer> peer = make_peer();
  std::unique_ptr<GrantTable> grants = peer->platform().open_grant_table();

  int map(std::span<const GrantRef> grefs, bool writable, GrantMapping& mapping) {
    return grants->map(peer->domid(), grefs, writable, mapping);
  }
  GrantCopy from_peer(GrantRef gref, std::byte* local, uint16_t offset, uint16_t length) {
    return {local, gref, offset, length, peer->domid(), false, false};
  }
  GrantCopy to_peer(GrantRef gref, std::byte* local, uint16_t offset, uint16_t length) {
    return {local, gref, offset, length, peer->domid(), true, false};
  }
};

TEST_CASE_FIXTURE(Fixture, "grants: pages are mapped side by side in the order asked for") {
  std::array<Peer::GrantedPage, 4> pages;
  for (auto& page : pages) page = peer->grant();
  std::array<GrantRef, 4> grefs;
  for (size_t i = 0; i < 4; i++) {
    grefs[i] = pages[(i + 1) % 4].gref;
    pages[(i + 1) % 4].memory[0] = std::byte(i + 1);
  }
  GrantMapping mapping;
  REQUIRE(map(grefs, true, mapping) == 0);
  CHECK(mapping.page_count == 4);
  for (size_t i = 0; i < 4; i++) CHECK(mapping.address[i * kPageBytes] == std::byte(i + 1));
  mapping.address[kPageBytes + 5] = std::byte{0x42};
  CHECK(pages[2].memory[5] == std::byte{0x42});
  grants->unmap(mapping);
  CHECK(mapping.address == nullptr);
}

TEST_CASE_FIXTURE(Fixture, "grants: the largest request's pages are mapped at once") {
  std::vector<GrantRef> grefs;
  for (uint32_t i = 0; i < 256; i++) {
    const Peer::GrantedPage page = peer->grant();
    page.memory[9] = std::byte(i);
    grefs.push_back(page.gref);
  }
  GrantMapping mapping;
  REQUIRE(map(grefs, false, mapping) == 0);
  for (size_t i = 0; i < 256; i++) CHECK(mapping.address[i * kPageBytes + 9] == std::byte(i));
  grants->unmap(mapping);
}

TEST_CASE_FIXTURE(Fixture, "grants: nothing is mapped when one of the grefs was never granted") {
  const GrantRef good = peer->grant().gref;
  for (const GrantRef bad : {kNeverGranted, std::numeric_limits<GrantRef>::max()}) {
    GrantMapping mapping;
    CHECK(map(std::array{good, bad}, true, mapping) < 0);
    CHECK(mapping.address == nullptr);
    CHECK(map(std::array{bad, good}, true, mapping) < 0);
    CHECK(mapping.address == nullptr);
  }
  GrantMapping mapping;
  REQUIRE(map(std::array{good}, true, mapping) == 0);
  grants->unmap(mapping);
}

TEST_CASE_FIXTURE(Fixture, "grants: a readonly one is mapped for reading only") {
  const GrantRef gref = peer->grant(true).gref;
  GrantMapping mapping;
  CHECK(map(std::array{gref}, true, mapping) < 0);
  REQUIRE(map(std::array{gref}, false, mapping) == 0);
  CHECK(mapping.address[0] == std::byte{0});
  grants->unmap(mapping);
}

TEST_CASE_FIXTURE(Fixture, "grants: the same one can be mapped many times") {
  const Peer::GrantedPage page = peer->grant();
  GrantMapping first;
  GrantMapping second;
  REQUIRE(map(std::array{page.gref}, true, first) == 0);
  REQUIRE(map(std::array{page.gref, page.gref}, true, second) == 0);
  second.address[kPageBytes] = std::byte{3};
  grants->unmap(second);
  CHECK(first.address[0] == std::byte{3});
  grants->unmap(first);
}

TEST_CASE_FIXTURE(Fixture, "grants: one revoked while mapped stays mapped") {
  const Peer::GrantedPage page = peer->grant();
  GrantMapping mapping;
  REQUIRE(map(std::array{page.gref}, true, mapping) == 0);
  mapping.address[1] = std::byte{9};
  peer->revoke(page.gref);
  CHECK(mapping.address[1] == std::byte{9});
  mapping.address[1] = std::byte{8};
  CHECK(mapping.address[1] == std::byte{8});
  grants->unmap(mapping);
}

TEST_CASE_FIXTURE(Fixture, "grants: copies go both ways and up to the last byte of the page") {
  const Peer::GrantedPage page = peer->grant();
  std::array<std::byte, 8> local;
  local.fill(std::byte{0x11});
  std::array<std::byte, 8> back{};
  std::array batch{to_peer(page.gref, local.data(), kPageBytes - 8, 8),
                   from_peer(page.gref, back.data(), kPageBytes - 8, 8)};
  grants->copy(batch);
  CHECK(batch[0].ok);
  CHECK(batch[1].ok);
  CHECK(page.memory[kPageBytes - 1] == std::byte{0x11});
  CHECK(page.memory[kPageBytes - 9] == std::byte{0});
  CHECK(back == local);
}

TEST_CASE_FIXTURE(Fixture, "grants: a large batch of copies is carried out whole") {
  const Peer::GrantedPage page = peer->grant();
  std::vector<std::byte> local(1024 * 512, std::byte{0x77});
  std::vector<GrantCopy> batch;
  for (size_t i = 0; i < 1024; i++)
    batch.push_back(from_peer(page.gref, local.data() + i * 512, i % 8 * 512, 512));
  grants->copy(batch);
  for (const GrantCopy& copy : batch) REQUIRE(copy.ok);
  for (const std::byte byte : local) REQUIRE(byte == std::byte{0});
}

TEST_CASE_FIXTURE(Fixture, "grants: one bad copy fails alone") {
  const GrantRef writable = peer->grant().gref;
  const GrantRef readonly = peer->grant(true).gref;
  std::vector<std::byte> local(kPageBytes);
  std::array batch{
      from_peer(kNeverGranted, local.data(), 0, 512),
      from_peer(std::numeric_limits<GrantRef>::max(), local.data(), 0, 1),
      to_peer(readonly, local.data(), 0, 512),
      from_peer(writable, local.data(), 0, 512),
      from_peer(readonly, local.data(), 0, kPageBytes),
  };
  grants->copy(batch);
  for (size_t i = 0; i < 3; i++) CHECK_FALSE(batch[i].ok);
  CHECK(batch[3].ok);
  CHECK(batch[4].ok);
}

TEST_CASE_FIXTURE(Fixture, "grants: a domain that is not there grants nothing") {
  std::array<std::byte, 8> local{};
  GrantMapping mapping;
  CHECK(grants->map(kNobody, std::array{GrantRef{8}}, true, mapping) < 0);
  CHECK(mapping.address == nullptr);
  std::array batch{from_peer(8, local.data(), 0, 8)};
  batch[0].domid = kNobody;
  grants->copy(batch);
  CHECK_FALSE(batch[0].ok);
}

}  // namespace
}  // namespace ringdisk
