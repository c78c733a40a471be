// SPDX-License-Identifier: Apache-2.0
// What is here, as whoever served this disk before left it.
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include "channels/fill_home.h"

namespace ringdisk {
namespace {

constexpr uint64_t kReadBytesMax = 1u << 20;

}  // namespace

std::byte* FillHome::block(uint64_t index) const { return image_ + index * kFillBlockBytes; }

void FillHome::load(Loaded done) {
  on_loaded_ = std::move(done);
  image_bytes_ = fill_map_bytes(state_.chunks);
  void* memory =
      ::mmap(nullptr, image_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return loaded(errno, "no memory for the map of a fill");
  image_ = static_cast<std::byte*>(memory);
  const uint64_t blocks = fill_blocks(state_.chunks);
  is_dirty_.resize(blocks);
  dirty_.reserve(blocks);
  writing_.reserve(blocks);
  const Operation read{
      .kind = Operation::Kind::read, .length = kFillBlockBytes, .memory = block(0)};
  enter(
      [this, &read] { do_alone(read, *map_, [this](int32_t result) { header_is_here(result); }); });
}

void FillHome::header_is_here(int32_t result) {
  if (result < 0) return loaded(-result, "cannot read the map of a fill");
  FillHeader found;
  const FillHead head = read_fill_head({image_, kFillBlockBytes}, found);
  if (head == FillHead::fresh) return start_new_map();
  const FillHeader& expected = state_.header;
  const bool is_known = head == FillHead::ours && found.chunk_bytes == expected.chunk_bytes &&
                        found.source_bytes == expected.source_bytes &&
                        (expected.id == decltype(expected.id){} || found.id == expected.id);
  if (!is_known) return loaded(ESTALE, "the map of a fill was exchanged while it was opened");
  // The rest is the same, and others look at it.
  state_.header.id = found.id;
  state_.header.local_identity = found.local_identity;
  state_.header.source_identity = found.source_identity;
  if (found.state == FillHeader::full) {
    state_.absent = 0;
    become_straight();
    return loaded(0, "");
  }
  read_bits(kFillBlockBytes);
}

void FillHome::start_new_map() {
  std::random_device random;
  for (uint64_t& word : state_.header.id) word = uint64_t{random()} << 32 | random();
  write_header(FillHeader::filling, [this](int32_t result) {
    if (result < 0) return loaded(-result, "cannot write the map of a fill");
    merge();
  });
}

void FillHome::read_bits(uint64_t offset) {
  if (offset == image_bytes_) return merge();
  const uint64_t length = std::min(kReadBytesMax, image_bytes_ - offset);
  const Operation read{
      .kind = Operation::Kind::read, .offset = offset, .length = length, .memory = image_ + offset};
  do_alone(read, *map_, [this, offset, length](int32_t result) {
    if (result < 0) return loaded(-result, "cannot read the map of a fill");
    read_bits(offset + length);
  });
}

// What the daemon before us had done and not saved is in the live map, if the host has not died
// since; what was saved is on the medium.
void FillHome::merge() {
  try {
    state_.live = std::make_unique<FillLive>(live_path_, state_.header);
  } catch (const std::system_error& error) {
    return loaded(error.code().value(), error.what());
  }
  uint64_t here = 0;
  uint64_t unsaved = 0;
  const uint64_t words = fill_blocks(state_.chunks) * kFillBlockWords;
  for (uint64_t i = 0; i < words; i++) {
    FillLive::Word& live = state_.live->words()[i];
    uint64_t saved = 0;
    std::memcpy(&saved, block(1) + i * 8, 8);
    const uint64_t before = live.load(std::memory_order_relaxed);
    const uint64_t both = before | saved;
    if (both != before) live.store(both, std::memory_order_relaxed);
    here += static_cast<uint64_t>(std::popcount(both));
    if (both == saved) continue;
    unsaved += static_cast<uint64_t>(std::popcount(both & ~saved));
    mark_dirty(i / kFillBlockWords);
  }
  if (here > state_.chunks) return loaded(EUCLEAN, "the map of a fill is damaged");
  state_.absent = state_.chunks - here;
  state_.unsaved = unsaved;
  if (rate_ > 0 && state_.live->rate() == 0) state_.live->rate() = rate_;
  loaded(0, "");
}

void FillHome::loaded(int error, const std::string& text) {
  std::exchange(on_loaded_, nullptr)(error, text);
}

}  // namespace ringdisk
