// SPDX-License-Identifier: Apache-2.0
// Which chunks of a disk that is being filled from a source are here. It is kept twice, since it
// has to outlive two deaths:
//   on a medium, beside the disk: a bit is set there only when the chunk's data had been flushed
//     before. This is what holds after the host's death;
//   in memory, as a file on tmpfs: a bit is set as soon as the chunk's data is written, before a
//     write that relies on it is answered. This is what holds after the daemon's death.
// A bit that is set is never taken back, so that both may be put together.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace ringdisk {

inline constexpr uint32_t kFillChunkBytesDefault = 64u << 10;
inline constexpr uint32_t kFillChunkBytesMin = 16u << 10;
inline constexpr uint32_t kFillChunkBytesMax = 2u << 20;
// 16 TiB in chunks of 64 KiB; a map of 32 MiB.
inline constexpr uint64_t kFillChunksMax = uint64_t{1} << 28;
// The map's medium is read and written in such blocks; the first is its header.
inline constexpr uint32_t kFillBlockBytes = 4096;
inline constexpr uint64_t kFillBlockChunks = uint64_t{kFillBlockBytes} * 8;
inline constexpr uint32_t kFillBlockWords = kFillBlockBytes / 8;

constexpr uint64_t fill_chunks(uint64_t source_bytes, uint32_t chunk_bytes) {
  return (source_bytes + chunk_bytes - 1) / chunk_bytes;
}
constexpr uint64_t fill_blocks(uint64_t chunks) {
  return (chunks + kFillBlockChunks - 1) / kFillBlockChunks;
}
constexpr uint64_t fill_map_bytes(uint64_t chunks) {
  return (1 + fill_blocks(chunks)) * kFillBlockBytes;
}

// The map's first bytes on its medium: within one sector, which is written whole or not at all.
struct FillHeader {
  static constexpr std::array<char, 8> kMagic{'R', 'D', 'f', 'i', 'l', 'l', 'm', 'p'};
  static constexpr uint32_t kVersion = 1;
  enum State : uint32_t { filling = 1, full = 2 };

  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t chunk_bytes = 0;
  uint64_t source_bytes = 0;
  uint32_t state = filling;
  uint32_t reserved = 0;
  std::array<uint64_t, 2> id{};  // drawn when it was made
  uint64_t local_identity = 0;   // see lasting_identity()
  uint64_t source_identity = 0;
  uint64_t checksum = 0;  // of what is before it

  uint64_t computed_checksum() const;
};
inline constexpr size_t kFillHeadBytes = sizeof(FillHeader);

enum class FillHead : uint8_t { fresh, ours, foreign };
// `head`: at least kFillHeadBytes. fresh: nothing was ever written there.
FillHead read_fill_head(std::span<const std::byte> head, FillHeader& header);

// Of a medium's identity, what is still the same after the host was started anew; 0: nothing.
uint64_t lasting_identity(std::string_view identity);
uint64_t hash_of(std::string_view text);

// The map in memory. One thread sets bits; any reads them.
class FillLive {
 public:
  using Word = std::atomic<uint64_t>;

  // `path` empty: it dies with this process. A file that is another map's is made anew. Throws
  // std::system_error.
  FillLive(std::string path, const FillHeader& header);
  ~FillLive();
  FillLive(const FillLive&) = delete;
  FillLive& operator=(const FillLive&) = delete;

  Word* words() const { return words_; }
  // Also kept over the daemon's death: bytes a second, 0: as fast as it goes.
  std::atomic<uint64_t>& rate() const;
  std::atomic<uint32_t>& paused() const;
  // It is not needed any more: its file goes.
  void discard();

 private:
  struct Header;
  void open_file();
  void initialise(const FillHeader& header);
  bool is_of(const FillHeader& header) const;

  const std::string path_;
  Fd fd_;
  size_t bytes_ = 0;
  Header* header_ = nullptr;
  Word* words_ = nullptr;
};

}  // namespace ringdisk
