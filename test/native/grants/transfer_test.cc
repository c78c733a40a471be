// SPDX-License-Identifier: Apache-2.0
#include "grants/transfer.h"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <vector>

#include "fake_grants.h"

namespace ringdisk {
namespace {

std::byte pattern(GrantRef gref, size_t offset) {
  return static_cast<std::byte>(gref * 31 + offset * 7 + offset / 256);
}

void fill_pages(FakeGrants& grants, const std::vector<Segment>& segments) {
  for (const Segment& segment : segments)
    for (size_t i = 0; i < kPageBytes; i++) grants.page(segment.gref)[i] = pattern(segment.gref, i);
}

const std::vector<Segment> kSegments{{3, 0, 7, 0}, {9, 2, 2, 0}, {4, 7, 7, 0}, {3, 1, 5, 0}};
constexpr size_t kBytes = (8 + 1 + 1 + 5) * kSectorBytes;

void check_from_guest(bool by_mapping) {
  FakeGrants grants;
  fill_pages(grants, kSegments);
  Transfer transfer(grants);
  std::vector<std::byte> local(kBytes + 1, std::byte{0x5a});
  bool failed = false;
  transfer.add(1, kSegments, local.data(), false, by_mapping, failed);
  transfer.flush();
  CHECK_FALSE(failed);
  size_t at = 0;
  for (const Segment& segment : kSegments)
    for (size_t i = segment.first_sect * 512u; i < (segment.last_sect + 1u) * 512; i++)
      REQUIRE(local[at++] == pattern(segment.gref, i));
  CHECK(local[at] == std::byte{0x5a});
  CHECK(grants.mapped_pages == 0);
}

void check_to_guest(bool by_mapping) {
  FakeGrants grants;
  const std::vector<Segment> segments{{3, 1, 6, 0}, {9, 7, 7, 0}};
  fill_pages(grants, segments);
  Transfer transfer(grants);
  std::vector<std::byte> local(7 * kSectorBytes, std::byte{0x77});
  bool failed = false;
  transfer.add(1, segments, local.data(), true, by_mapping, failed);
  transfer.flush();
  CHECK_FALSE(failed);
  for (const Segment& segment : segments)
    for (size_t i = 0; i < kPageBytes; i++) {
      const bool inside = i / 512 >= segment.first_sect && i / 512 <= segment.last_sect;
      REQUIRE(grants.page(segment.gref)[i] ==
              (inside ? std::byte{0x77} : pattern(segment.gref, i)));
    }
  CHECK(grants.mapped_pages == 0);
}

TEST_CASE("transfer: brings exactly the segments' sectors, in order") {
  check_from_guest(false);
  check_from_guest(true);
}

TEST_CASE("transfer: touches nothing in the guest but the segments' sectors") {
  check_to_guest(false);
  check_to_guest(true);
}

TEST_CASE("transfer: many requests are one call, and a full batch goes by itself") {
  FakeGrants grants;
  Transfer transfer(grants);
  const std::vector<Segment> segments(256, Segment{5, 0, 0, 0});
  std::vector<std::byte> local(256 * kSectorBytes);
  bool failed = false;
  for (int i = 0; i < 4; i++) transfer.add(1, segments, local.data(), false, false, failed);
  CHECK(grants.copy_calls.empty());
  transfer.add(1, std::span(segments).first(1), local.data(), false, false, failed);
  CHECK(grants.copy_calls == std::vector<size_t>{1024});
  transfer.flush();
  transfer.flush();
  CHECK(grants.copy_calls == std::vector<size_t>{1024, 1});
}

TEST_CASE("transfer: a bad grant fails its own request and no other") {
  FakeGrants grants;
  grants.refused = {66};
  Transfer transfer(grants);
  std::vector<std::byte> local(kPageBytes);
  std::deque<bool> failed(3);
  const std::vector<Segment> good{{1, 0, 0, 0}};
  const std::vector<Segment> bad{{2, 0, 0, 0}, {66, 0, 0, 0}, {3, 0, 0, 0}};
  transfer.add(1, good, local.data(), false, false, failed[0]);
  transfer.add(1, bad, local.data(), false, false, failed[1]);
  transfer.add(1, good, local.data(), false, false, failed[2]);
  transfer.flush();
  CHECK_FALSE(failed[0]);
  CHECK(failed[1]);
  CHECK_FALSE(failed[2]);
}

TEST_CASE("transfer: a bad grant of a mapped request leaves nothing mapped") {
  FakeGrants grants;
  grants.refused = {66};
  Transfer transfer(grants);
  std::vector<std::byte> local(2 * kSectorBytes, std::byte{0x5a});
  bool failed = false;
  transfer.add(1, std::vector<Segment>{{2, 0, 0, 0}, {66, 0, 0, 0}}, local.data(), false, true,
               failed);
  CHECK(failed);
  CHECK(grants.mapped_pages == 0);
  CHECK(local[0] == std::byte{0x5a});
}

}  // namespace
}  // namespace ringdisk
