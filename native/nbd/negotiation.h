// SPDX-License-Identifier: Apache-2.0
// What client and server say to each other before the first request ("fixed newstyle"). Pure: bytes
// in, bytes out. Bounded by the constants below, whatever a client sends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringdisk::nbd {

// Longer names are in nobody's protocol.
inline constexpr size_t kNameBytesMax = 4096;
// An option's data: an export's name and questions about contexts.
inline constexpr uint32_t kOptionBytesMax = 16384;
inline constexpr uint32_t kOptionsMax = 128;  // until a client must have chosen
inline constexpr uint32_t kContextsMax = 16;  // that a client may choose

// One kind of block status: "base:allocation", "qemu:dirty-bitmap:NAME".
struct Context {
  uint32_t id = 0;  // as the replies name it; not 0
  std::string name{};
};

// An export as clients are told of it. Lengths are in bytes.
struct ExportFacts {
  std::string name{};
  std::string description{};
  uint64_t size = 0;
  uint16_t flags = 0;  // Transmission
  uint32_t block_min = 1;
  uint32_t block_preferred = 4096;
  uint32_t block_max = 32u << 20;
  std::vector<Context> contexts{};
};

// What was agreed on.
struct Agreement {
  size_t index = 0;  // of the export
  bool structured = false;
  bool extended = false;             // headers of 32 bytes, both ways; implies structured
  std::vector<uint32_t> contexts{};  // ids
};

class Negotiation {
 public:
  // The exports stay as they are while this lives. Writes the greeting.
  Negotiation(std::span<const ExportFacts> exports, std::vector<std::byte>& out);

  enum class State : uint8_t { options, agreed, over };
  State state() const { return state_; }
  const Agreement& agreement() const { return agreement_; }

  // Takes whole messages off the front, writes the answers; returns the bytes taken. What is left
  // comes again, with more behind it. After `agreed` it takes nothing: the rest are requests.
  size_t feed(std::span<const std::byte> in, std::vector<std::byte>& out);

 private:
  using Out = std::vector<std::byte>;
  size_t take_flags(std::span<const std::byte> in);
  size_t take_option(std::span<const std::byte> in, Out& out);
  void answer(uint32_t option, std::span<const std::byte> data, Out& out);
  void export_name(std::span<const std::byte> data, Out& out);
  void list(std::span<const std::byte> data, Out& out) const;
  void info(uint32_t option, std::span<const std::byte> data, Out& out);
  void tell(uint32_t option, const ExportFacts& facts, std::span<const std::byte> wishes,
            Out& out) const;
  void meta_context(uint32_t option, std::span<const std::byte> data, Out& out);
  void agree(size_t index);
  std::optional<size_t> find(std::string_view name) const;

  const std::span<const ExportFacts> exports_;
  State state_ = State::options;
  bool greeted_ = false;
  bool no_zeroes_ = false;
  uint32_t options_ = 0;
  uint32_t skip_ = 0;  // bytes of an option that was too long, still to come
  Agreement agreement_;
  std::optional<size_t> contexts_of_;  // the export that agreement_.contexts are of
};

}  // namespace ringdisk::nbd
