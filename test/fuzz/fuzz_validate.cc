// SPDX-License-Identifier: Apache-2.0
// decode() and validate() against the rules written down a second time.
#include <vector>

#include "input.h"
#include "protocol/decode.h"
#include "protocol/validate.h"
#include "rules.h"

namespace ringdisk::fuzz {
namespace {

Geometry take_geometry(Input& input) {
  const auto flags = input.take<uint8_t>();
  Geometry disk;
  disk.read_only = (flags & 1) != 0;
  disk.discard = (flags & 2) != 0;
  disk.secure_discard = (flags & 4) != 0;
  disk.indirect_segments_max = static_cast<uint16_t>(input.take<uint8_t>() * 256 / 255);
  // Small disks, so that requests reach their ends; and the largest there can be.
  disk.capacity_sectors = input.take<uint16_t>();
  if ((flags & 8) != 0) disk.capacity_sectors = UINT64_MAX - disk.capacity_sectors;
  return disk;
}

int16_t status_of(Rejection rejection) {
  if (rejection == Rejection::none) return wire::kOkay;
  return is_unsupported(rejection) ? wire::kNotSupported : wire::kError;
}

void check_accepted(const Asked& asked, std::span<const Segment> segments, const Geometry& disk,
                    const ValidRequest& valid) {
  using Kind = ValidRequest::Kind;
  const bool writes = valid.kind != Kind::read && valid.kind != Kind::flush;
  FUZZ_CHECK(!(disk.read_only && valid.kind == Kind::write));
  FUZZ_CHECK(!(disk.read_only && writes && valid.sector_count > 0));
  FUZZ_CHECK(is_inside(valid.sector, valid.sector_count, disk.capacity_sectors) ||
             valid.sector_count == 0);
  FUZZ_CHECK(valid.pages == segments.size());
  FUZZ_CHECK(valid.kind != Kind::flush || valid.sector_count == 0);
  FUZZ_CHECK(valid.sector_count == 0 || valid.sector == asked.sector);
  FUZZ_CHECK(!valid.secure || valid.kind == Kind::discard);
}

void run(Input input) {
  const Abi abi = input.flag() ? Abi::x86_32 : Abi::x86_64;
  const Geometry disk = take_geometry(input);
  std::array<std::byte, wire::kEntryBytesMax> bytes;
  input.copy(bytes.data(), bytes.size());

  const Asked asked = read_entry(abi, bytes);
  const Request request = decode(abi, bytes);
  FUZZ_CHECK(request.operation == asked.operation && request.guest_id == asked.id);
  FUZZ_CHECK(request.segment_count == asked.segment_count);
  FUZZ_CHECK(request.answered_operation() == answered_operation(asked));
  FUZZ_CHECK(request.indirect_gref == asked.indirect_gref);

  const Rejection counted = check_segment_count(request, disk);
  if (counted != Rejection::none) {
    FUZZ_CHECK(status_of(counted) == deserved_status(asked, {}, disk));
    ValidRequest valid;
    FUZZ_CHECK(validate(request, {}, disk, valid) == counted);
    return;
  }
  std::vector<Segment> segments(asked.segment_count);
  if (asked.operation == wire::kIndirect)
    input.copy(segments.data(), segments.size() * sizeof(Segment));
  else
    std::copy_n(request.segments.begin(), segments.size(), segments.begin());
  std::vector<xen_abi::Segment> same(segments.size());
  if (!same.empty()) std::memcpy(same.data(), segments.data(), same.size() * sizeof same[0]);
  for (size_t i = 0; i < asked.segments.size(); i++)
    FUZZ_CHECK(std::memcmp(&same[i], &asked.segments[i], sizeof same[i]) == 0);

  ValidRequest valid;
  const Rejection rejection = validate(request, segments, disk, valid);
  FUZZ_CHECK(status_of(rejection) == deserved_status(asked, same, disk));
  FUZZ_CHECK(to_string(rejection)[0] != '\0');
  if (rejection == Rejection::none) check_accepted(asked, segments, disk, valid);
}

}  // namespace
}  // namespace ringdisk::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringdisk::fuzz::run(ringdisk::fuzz::Input(data, size));
  return 0;
}
