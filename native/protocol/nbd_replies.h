// SPDX-License-Identifier: Apache-2.0
// What a server answers, and to which request: simple and structured replies. Pure: the data of a
// read is moved by whoever asks, which is told where it belongs. A server that lies is found out:
// no byte is put where none was asked for, and no read is done before all of it has come.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {

// What of a read has come, in any order. It is few pieces at a time: whoever answers in more, and
// not in order, is believed no more.
class Coverage {
 public:
  void reset() { count_ = 0; }
  // False: some of it has come before, or there are too many pieces.
  bool add(uint32_t begin, uint32_t end);
  bool is_whole(uint32_t length) const;

 private:
  struct Piece {
    uint32_t begin;
    uint32_t end;
  };
  std::array<Piece, 6> pieces_{};
  uint32_t count_ = 0;
};

class Replies {
 public:
  struct Step {
    enum class What : uint8_t {
      more,      // go on; where nothing was taken there is no whole header yet
      data,      // `length` bytes follow, which belong at `at` in the request's memory
      zeroes,    // the same, but nothing follows
      finished,  // with `error`
      broken,    // the server lies: `why`
    };
    What what = What::more;
    size_t taken = 0;
    uint32_t tag = 0;
    uint32_t at = 0;
    uint32_t length = 0;
    Error error = Error::none;
    const char* why = "";
  };

  explicit Replies(uint32_t requests_max);

  bool has_room() const { return !free_.empty(); }
  uint32_t in_flight() const { return static_cast<uint32_t>(slots_.size() - free_.size()); }
  // The tag of a request that is about to be sent; `length` is of no matter but for reads.
  uint32_t begin(bool is_read, uint64_t offset, uint32_t length);
  uint64_t cookie(uint32_t tag) const;
  // For another connection: nothing is in flight.
  void reset();

  // `in` begins behind what was taken before, and behind the data that the last step told of; it
  // has room for kHeaderBytesMax at least.
  Step next(std::span<const std::byte> in);
  // The longest header, with the longest text that may come with an error.
  static constexpr size_t kHeaderBytesMax = 8192;

 private:
  struct Slot {
    bool active = false;
    bool is_read = false;
    uint64_t offset = 0;
    uint32_t length = 0;
    uint32_t uses = 0;
    Error error = Error::none;
    Coverage coverage;
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  Step simple(std::span<const std::byte> in);
  Step structured(std::span<const std::byte> in);
  Step chunk(Slot& slot, Chunk type, std::span<const std::byte> data, Step step);
  Step data_chunk(Slot& slot, std::span<const std::byte> data, uint32_t bytes, Step step);
  static Step error_chunk(Slot& slot, Chunk type, std::span<const std::byte> data, Step step);
  Step finish(uint32_t tag, Step step);
  bool find(uint64_t cookie, uint32_t& tag) const;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint32_t finishing_ = kNone;  // its last data has been told of
};

}  // namespace ringdisk::nbd
