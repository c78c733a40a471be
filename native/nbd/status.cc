// SPDX-License-Identifier: Apache-2.0
// Block status: what is data, as the medium says, and what has changed, as bitmaps say. One chunk
// for each context that the client has chosen.
#include <algorithm>
#include <array>
#include <cstring>

#include "medium/block_map.h"
#include "nbd/connection.h"

namespace ringdisk::nbd {
namespace {

struct Extents {
  std::array<Extent, kExtentsMax> all;
  size_t count = 0;

  // False: there is no room for it.
  bool add(uint64_t length, uint32_t flags) {
    if (count > 0 && all[count - 1].flags == flags) {
      all[count - 1].length += length;
      return true;
    }
    if (count == all.size()) return false;
    all[count++] = {length, flags};
    return true;
  }
  std::span<const Extent> first(bool one) const { return std::span(all).first(one ? 1 : count); }
};

uint32_t state_of(MapKind kind) {
  if (kind == MapKind::hole) return kStateHole | kStateZero;
  return kind == MapKind::zero ? kStateZero : 0;
}

// What the worker says is looked at as anybody's word.
Extents allocation_of(std::span<const MapExtent> found, uint64_t length) {
  Extents extents;
  uint64_t left = length;
  for (const MapExtent& one : found) {
    const uint64_t here = std::min(one.length, left);
    if (here == 0 || !extents.add(here, state_of(one.kind))) break;
    left -= here;
  }
  // Nothing is known of it: it may be data.
  if (extents.count == 0) extents.add(length, 0);
  return extents;
}

// Begins to answer for a range, in bounded time: a client asks again for the rest. One that has
// missed something says that all has changed.
Extents changes_in(const Bitmap& bitmap, uint64_t offset, uint64_t length) {
  Extents extents;
  const bool is_lost = bitmap.state() == Bitmap::State::inconsistent;
  if (is_lost) extents.add(length, kStateDirty);
  const uint64_t most = Bitmap::kRunChunks * bitmap.granularity();
  const uint64_t end = offset + std::min(length, most);
  for (uint64_t at = offset; at < end && !is_lost;) {
    const Bitmap::Run run = bitmap.run(at, offset + length);
    if (!extents.add(run.length, run.is_set ? kStateDirty : 0)) break;
    at += run.length;
  }
  return extents;
}

}  // namespace

bool Connection::asks_for_allocation() const {
  return std::ranges::find(agreement_.contexts, kAllocationContext) != agreement_.contexts.end();
}

// The medium is asked only for what bitmaps do not know.
bool Connection::begin_status(Task& task) {
  if (asks_for_allocation())
    return begin_answered(task, ValidRequest::Kind::map, task.request.length);
  if (!has_room(status_bytes())) return false;
  put_bitmaps(task);
  nothing_more(task);
  return true;
}

void Connection::deliver_map(Part& part) {
  Task& task = *part.task;
  std::array<MapExtent, kMapExtents> found;
  std::memcpy(found.data(), part.bounce.memory.data(), sizeof found);
  const Extents extents = allocation_of(found, task.request.length);
  put_status(task, kAllocationContext, extents.first(task.request.one_chunk));
  put_bitmaps(task);
  keep_promise(part);
}

void Connection::put_bitmaps(Task& task) {
  const Request& request = task.request;
  for (const uint32_t context : agreement_.contexts) {
    if (context == kAllocationContext) continue;
    const Bitmap& bitmap = *bitmaps_[context - kFirstBitmapContext];
    const Extents extents = changes_in(bitmap, request.offset, request.length);
    put_status(task, context, extents.first(request.one_chunk));
  }
}

// In the order of the agreement, in which the medium's own comes first.
void Connection::put_status(Task& task, uint32_t context, std::span<const Extent> extents) {
  const bool is_last = context == agreement_.contexts.back();
  std::array<std::byte, kStatusBytesMax> bytes;
  const size_t size = put_block_status(bytes.data(), style_, task.request.cookie,
                                       task.request.offset, context, extents, is_last);
  out_.add(std::span(bytes).first(size));
  task.answers = true;
  task.answered = is_last;
}

}  // namespace ringdisk::nbd
