// SPDX-License-Identifier: Apache-2.0
#include "protocol/nbd_replies.h"

#include <algorithm>
#include <utility>

#include "base/kill_point.h"

namespace ringdisk::nbd {
namespace {

using What = Replies::Step::What;

Replies::Step broken(const char* why) { return {.what = What::broken, .why = why}; }

bool is_error(Chunk type) { return (static_cast<uint16_t>(type) & 0x8000) != 0; }

constexpr size_t kOffsetBytes = 8;
constexpr size_t kHoleBytes = 12;
constexpr size_t kErrorBytes = 6;

}  // namespace

bool Coverage::add(uint32_t begin, uint32_t end) {
  uint32_t at = 0;
  while (at < count_ && pieces_[at].end < begin) at++;
  const bool joins_next = at < count_ && pieces_[at].begin <= end;
  if (!joins_next) {
    if (count_ == pieces_.size()) return false;
    std::copy_backward(pieces_.begin() + at, pieces_.begin() + count_,
                       pieces_.begin() + count_ + 1);
    pieces_[at] = {begin, end};
    count_++;
    return true;
  }
  Piece& piece = pieces_[at];
  if (begin != piece.end && end != piece.begin) return false;  // they overlap
  const bool is_behind = begin == piece.end;
  if (!is_behind) {
    piece.begin = begin;
    return true;
  }
  const bool meets = at + 1 < count_ && pieces_[at + 1].begin <= end;
  if (meets && pieces_[at + 1].begin < end) return false;
  piece.end = meets ? pieces_[at + 1].end : end;
  if (!meets) return true;
  std::copy(pieces_.begin() + at + 2, pieces_.begin() + count_, pieces_.begin() + at + 1);
  count_--;
  return true;
}

bool Coverage::is_whole(uint32_t length) const {
  return count_ == 1 && pieces_[0].begin == 0 && pieces_[0].end == length;
}

Replies::Replies(uint32_t requests_max) : slots_(requests_max) {
  free_.reserve(requests_max);
  reset();
}

void Replies::reset() {
  finishing_ = kNone;
  free_.clear();
  for (uint32_t tag = 0; tag < slots_.size(); tag++) {
    slots_[tag].active = false;
    free_.push_back(static_cast<uint32_t>(slots_.size()) - 1 - tag);
  }
}

uint32_t Replies::begin(bool is_read, uint64_t offset, uint32_t length) {
  const uint32_t tag = free_.back();
  free_.pop_back();
  Slot& slot = slots_[tag];
  slot.active = true;
  slot.is_read = is_read;
  slot.offset = offset;
  slot.length = length;
  slot.uses++;
  slot.error = Error::none;
  slot.coverage.reset();
  return tag;
}

// A second answer to the same request is none to the next one with its tag.
uint64_t Replies::cookie(uint32_t tag) const { return uint64_t{slots_[tag].uses} << 32 | tag; }

bool Replies::find(uint64_t cookie, uint32_t& tag) const {
  tag = static_cast<uint32_t>(cookie);
  return tag < slots_.size() && slots_[tag].active && this->cookie(tag) == cookie;
}

Replies::Step Replies::next(std::span<const std::byte> in) {
  if (finishing_ != kNone) return finish(std::exchange(finishing_, kNone), {});
  if (in.size() < kSimpleReplyBytes) return {};
  const auto magic = get<uint32_t>(in.data());
  if (magic == kSimpleReplyMagic) return simple(in);
  if (magic == kStructuredReplyMagic) return structured(in);
  return broken("an answer that begins as none does");
}

Replies::Step Replies::simple(std::span<const std::byte> in) {
  Step step{.taken = kSimpleReplyBytes};
  if (!find(get<uint64_t>(in.data() + 8), step.tag))
    return broken("an answer to what was not asked");
  Slot& slot = slots_[step.tag];
  slot.error = static_cast<Error>(get<uint32_t>(in.data() + 4));
  if (!slot.is_read || slot.error != Error::none) return finish(step.tag, step);
  if (!slot.coverage.add(0, slot.length)) return broken("an answer that comes twice");
  step.what = What::data;
  step.length = slot.length;
  finishing_ = step.tag;
  return step;
}

Replies::Step Replies::structured(std::span<const std::byte> in) {
  if (in.size() < kStructuredReplyBytes) return {};
  const auto flags = get<uint16_t>(in.data() + 4);
  const auto type = static_cast<Chunk>(get<uint16_t>(in.data() + 6));
  const auto length = get<uint32_t>(in.data() + 16);
  Step step{.taken = kStructuredReplyBytes};
  if (!find(get<uint64_t>(in.data() + 8), step.tag))
    return broken("an answer to what was not asked");
  // Of data only where it belongs is looked at here.
  const bool brings_data = type == Chunk::offset_data;
  const size_t here = brings_data ? kOffsetBytes : length;
  if (brings_data && length <= kOffsetBytes) return broken("data of no length");
  if (here > kHeaderBytesMax - kStructuredReplyBytes) return broken("an answer that is too long");
  if (in.size() < kStructuredReplyBytes + here) return {};
  step.taken += here;
  step.length = brings_data ? length - static_cast<uint32_t>(kOffsetBytes) : 0;
  Slot& slot = slots_[step.tag];
  step = chunk(slot, type, in.subspan(kStructuredReplyBytes, here), step);
  if (step.what == What::broken || (flags & kChunkDone) == 0) return step;
  if (step.what == What::more) return finish(step.tag, step);
  finishing_ = step.tag;
  return step;
}

// What it returns as `more` says nothing but that it is taken.
Replies::Step Replies::chunk(Slot& slot, Chunk type, std::span<const std::byte> data, Step step) {
  if (is_error(type)) return error_chunk(slot, type, data, step);
  if (type == Chunk::none) return data.empty() ? step : broken("a last word with more behind it");
  if (!slot.is_read) return broken("data where none was asked for");
  if (type == Chunk::offset_data) {
    step.what = What::data;
    return data_chunk(slot, data, step.length, step);
  }
  if (type != Chunk::offset_hole || data.size() != kHoleBytes)
    return broken("an answer of a kind that was not asked for");
  step.what = What::zeroes;
  return data_chunk(slot, data, get<uint32_t>(data.data() + kOffsetBytes), step);
}

Replies::Step Replies::data_chunk(Slot& slot, std::span<const std::byte> data, uint32_t bytes,
                                  Step step) {
  const auto offset = get<uint64_t>(data.data());
  const uint64_t end = slot.length + (RD_PLANTED("capacity") ? 512 : 0);
  const bool inside =
      bytes > 0 && bytes <= end && offset >= slot.offset && offset - slot.offset <= end - bytes;
  if (!inside) return broken("data beyond what was asked for");
  step.at = static_cast<uint32_t>(offset - slot.offset);
  step.length = bytes;
  if (!slot.coverage.add(step.at, step.at + bytes))
    return broken("the same data twice, or in pieces without order");
  return step;
}

Replies::Step Replies::error_chunk(Slot& slot, Chunk type, std::span<const std::byte> data,
                                   Step step) {
  const size_t more = type == Chunk::error_offset ? kOffsetBytes : 0;
  if (data.size() < kErrorBytes + more) return broken("an error that does not say which");
  const auto error = static_cast<Error>(get<uint32_t>(data.data()));
  if (slot.error == Error::none) slot.error = error == Error::none ? Error::io : error;
  return step;
}

Replies::Step Replies::finish(uint32_t tag, Step step) {
  Slot& slot = slots_[tag];
  if (slot.is_read && slot.error == Error::none && !slot.coverage.is_whole(slot.length))
    return broken("a read of which not all came");
  slot.active = false;
  free_.push_back(tag);
  step.what = What::finished;
  step.tag = tag;
  step.error = slot.error;
  return step;
}

}  // namespace ringdisk::nbd
