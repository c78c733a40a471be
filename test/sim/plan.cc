// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>

#include "random.h"

namespace ringdisk::sim {
namespace {

constexpr uint32_t kIndirectSegments = 24;  // at most; more only makes a run slower
constexpr uint64_t kDiscardSectors = 64;
constexpr uint32_t kFlawPercent = 2;  // each costs its ring a penalty of a millisecond
constexpr uint8_t kNoSuchOperation = 77;

uint8_t pick_operation(Random& random) {
  const uint32_t roll = random.below(100);
  if (roll < 48) return wire::kWrite;
  if (roll < 84) return wire::kRead;
  if (roll < 90) return wire::kDiscard;
  if (roll < 95) return wire::kFlushDiskcache;
  return wire::kWriteBarrier;
}

// Whole pages mostly, as page caches write them; now and then parts of a page.
PlannedSegment pick_segment(Random& random) {
  if (random.percent(60)) return {0, kSectorsPerPage - 1};
  const auto first = static_cast<uint8_t>(random.below(kSectorsPerPage));
  return {first, static_cast<uint8_t>(random.between(first, kSectorsPerPage - 1))};
}

void add_segments(Random& random, uint32_t count, PlannedRequest& request) {
  for (uint32_t i = 0; i < count; i++) {
    request.segments.push_back(pick_segment(random));
    request.sector_count +=
        request.segments.back().last_sect - request.segments.back().first_sect + 1u;
  }
}

void spoil(Random& random, uint64_t disk_sectors, PlannedRequest& request) {
  request = {.operation = random.percent(50) ? wire::kRead : wire::kWrite};
  request.flaw = static_cast<Flaw>(random.between(1, kFlaws - 1));
  request.sector = random.below(disk_sectors);
  switch (request.flaw) {
    case Flaw::none:
    case Flaw::no_segments:
      return;
    case Flaw::unknown_operation:
      request.operation = kNoSuchOperation;
      return;
    case Flaw::empty_discard:
      request.operation = wire::kDiscard;
      return;
    case Flaw::beyond_end:
      add_segments(random, 1, request);
      request.sector = disk_sectors - request.sector_count + 1;
      return;
    case Flaw::ungranted_segment_list:
    case Flaw::indirect_operation:
      request.indirect = true;
      add_segments(random, kDirectSegmentsMax + 1, request);
      break;
    case Flaw::too_many_segments:
      add_segments(random, kDirectSegmentsMax, request);
      break;
    case Flaw::swapped_sectors:
    case Flaw::ungranted_page:
      add_segments(random, random.between(1, 3), request);
      break;
  }
  request.sector = random.below(disk_sectors - request.sector_count);
}

}  // namespace

int16_t PlannedRequest::expected_status() const {
  if (flaw == Flaw::none) return wire::kOkay;
  return flaw == Flaw::unknown_operation ? wire::kNotSupported : wire::kError;
}

PlannedRequest plan_request(uint64_t seed, uint64_t number, uint64_t disk_sectors) {
  Random random(seed, Random::Stream::request, number);
  PlannedRequest request{.operation = pick_operation(random)};
  if (random.percent(kFlawPercent)) {
    spoil(random, disk_sectors, request);
    return request;
  }
  if (request.operation == wire::kFlushDiskcache) return request;
  if (request.operation == wire::kDiscard) {
    request.sector_count = random.between(1, kDiscardSectors);
    request.sector = random.below(disk_sectors - request.sector_count);
    return request;
  }
  if (request.operation == wire::kWriteBarrier) {
    add_segments(random, random.below(5), request);
  } else if (random.percent(25)) {
    request.indirect = true;
    add_segments(random, random.between(kDirectSegmentsMax + 1, kIndirectSegments), request);
  } else {
    add_segments(random, random.percent(70) ? 1 : random.between(2, kDirectSegmentsMax), request);
  }
  request.sector = random.below(disk_sectors - request.sector_count + 1);
  return request;
}

}  // namespace ringdisk::sim
