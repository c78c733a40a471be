// SPDX-License-Identifier: Apache-2.0
#include "base/bitmap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "base/fd.h"
#include "base/units.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMagic = 0x70616d7469626452;  // "Rdbitmap"
constexpr uint32_t kVersion = 1;
constexpr uint64_t kBitsPerWord = 64;
constexpr uint64_t kAll = ~uint64_t{0};

struct Header {
  uint64_t magic;
  uint32_t version;
  uint32_t granularity;
  uint64_t covered;
  uint32_t state;
  char label[Bitmap::kLabelBytes];
};
static_assert(sizeof(Header) <= kPageBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              sizeof(std::atomic<uint64_t>) == sizeof(uint64_t));

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

uint64_t chunks_of(uint64_t bytes, uint32_t shift) {
  const uint64_t whole = bytes >> shift;
  return whole << shift == bytes ? whole : whole + 1;
}

uint32_t shift_of(uint32_t granularity) {
  return static_cast<uint32_t>(std::countr_zero(granularity));
}

size_t file_bytes(uint64_t chunks) {
  return kPageBytes + (chunks + kBitsPerWord - 1) / kBitsPerWord * sizeof(uint64_t);
}

bool is_granularity(uint32_t bytes) {
  return std::has_single_bit(bytes) && bytes >= Bitmap::kGranularityMin &&
         bytes <= Bitmap::kGranularityMax;
}

// The bits from `first` of a word on, and those before `end`.
uint64_t from(uint64_t first) { return kAll << first; }
uint64_t before(uint64_t end) { return end == kBitsPerWord ? kAll : ~(kAll << end); }

void write_header(int fd, const Header& header) {
  const ssize_t written = ::pwrite(fd, &header, sizeof header, 0);
  if (written != static_cast<ssize_t>(sizeof header)) fail(errno, "cannot write a bitmap");
}

}  // namespace

void Bitmap::create(const std::string& path, uint64_t bytes, uint32_t granularity,
                    const std::string& label, State state) {
  if (!is_granularity(granularity))
    throw std::invalid_argument("a granularity is a power of two from 4 KiB to 64 MiB");
  const uint64_t chunks = chunks_of(bytes, shift_of(granularity));
  if (bytes % kSectorBytes != 0 || chunks == 0 || chunks > kChunksMax)
    throw std::invalid_argument("a bitmap has 1 to 67108864 bits, for whole sectors");
  if (label.size() >= kLabelBytes) throw std::invalid_argument("a bitmap's label is too long");
  const Fd file = Fd::checked(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), path);
  try {
    // A store into a hole of a full tmpfs would kill the process.
    const auto length = static_cast<off_t>(file_bytes(chunks));
    if (const int error = ::posix_fallocate(file.get(), 0, length); error != 0)
      fail(error, "no room for the bitmap " + path);
    Header header{};
    header.version = kVersion;
    header.granularity = granularity;
    header.covered = bytes;
    header.state = static_cast<uint32_t>(state);
    label.copy(header.label, kLabelBytes - 1);
    write_header(file.get(), header);
    // Last: one that its maker did not finish is nobody's.
    header.magic = kMagic;
    write_header(file.get(), header);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

Bitmap::Bitmap(const std::string& path) {
  const Fd file = Fd::checked(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW), path);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) fail(errno, path);
  Header header{};
  const ssize_t got = ::pread(file.get(), &header, sizeof header, 0);
  if (got < 0) fail(errno, path);
  const bool is_whole = got == static_cast<ssize_t>(sizeof header) && header.magic == kMagic;
  if (!is_whole || header.version != kVersion || !is_granularity(header.granularity))
    fail(ESTALE, path + " is not a bitmap of this version, or was never finished");
  chunks_ = chunks_of(header.covered, shift_of(header.granularity));
  // Checked before it is mapped: who touches what lies behind the end of a file dies.
  if (header.covered % kSectorBytes != 0 || chunks_ == 0 || chunks_ > kChunksMax ||
      static_cast<size_t>(status.st_size) != file_bytes(chunks_))
    fail(ESTALE, path + " has another size than its bitmap");
  if (const int error = ::posix_fallocate(file.get(), 0, status.st_size); error != 0)
    fail(error, "no room for the bitmap " + path);
  bytes_ = file_bytes(chunks_);
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) fail(errno, "cannot map " + path);
  memory_ = static_cast<std::byte*>(memory);
  words_ = reinterpret_cast<Word*>(memory_ + kPageBytes);
  covered_ = header.covered;
  shift_ = shift_of(header.granularity);
}

Bitmap::~Bitmap() { ::munmap(memory_, bytes_); }

std::atomic<uint32_t>& Bitmap::header_word() const {
  return *reinterpret_cast<std::atomic<uint32_t>*>(memory_ + offsetof(Header, state));
}

std::string Bitmap::label() const {
  const auto* text = reinterpret_cast<const char*>(memory_ + offsetof(Header, label));
  return {text, ::strnlen(text, kLabelBytes)};
}

void Bitmap::set_range(uint64_t offset, uint64_t length) {
  if (length == 0 || offset >= covered_) return;
  const uint64_t last = (offset + std::min(length, covered_ - offset) - 1) >> shift_;
  for (uint64_t chunk = offset >> shift_; chunk <= last;) {
    const uint64_t index = chunk / kBitsPerWord;
    const uint64_t end = std::min(last + 1, (index + 1) * kBitsPerWord);
    const uint64_t bits = from(chunk % kBitsPerWord) & before(end - index * kBitsPerWord);
    if ((word(index) & bits) != bits) mark(index, bits);
    chunk = end;
  }
}

// Where all are, nobody's bit can be lost.
void Bitmap::mark(uint64_t index, uint64_t bits) {
  if (bits == kAll)
    words_[index].store(kAll, std::memory_order_relaxed);
  else
    words_[index].fetch_or(bits, std::memory_order_relaxed);
}

void Bitmap::clear_chunks(uint64_t first, uint64_t end) {
  for (uint64_t chunk = first; chunk < std::min(end, chunks_);) {
    const uint64_t index = chunk / kBitsPerWord;
    const uint64_t next = std::min({(index + 1) * kBitsPerWord, end, chunks_});
    const uint64_t bits = from(chunk % kBitsPerWord) & before(next - index * kBitsPerWord);
    words_[index].fetch_and(~bits, std::memory_order_relaxed);
    chunk = next;
  }
}

Bitmap::Run Bitmap::run(uint64_t offset, uint64_t end) const {
  if (offset >= end) return {0, false};
  const uint64_t chunks = whole_chunks(end - 1);
  const uint64_t first = offset >> shift_;
  if (first >= chunks) return {end - offset, true};
  const uint64_t limit = std::min(chunks, first + kRunChunks);
  // Each word is read once: others set bits meanwhile.
  uint64_t bits = word(first / kBitsPerWord);
  const bool is_set = (bits >> (first % kBitsPerWord) & 1) != 0;
  uint64_t chunk = first;
  while (chunk < limit) {
    const uint64_t index = chunk / kBitsPerWord;
    if (chunk != first) bits = word(index);
    const uint64_t differing = (is_set ? ~bits : bits) & from(chunk % kBitsPerWord);
    if (differing != 0) {
      chunk = index * kBitsPerWord + static_cast<uint64_t>(std::countr_zero(differing));
      break;
    }
    chunk = (index + 1) * kBitsPerWord;
  }
  chunk = std::min(chunk, limit);
  // Behind what is covered all counts as set.
  if (chunk == chunks && is_set) return {end - offset, true};
  return {std::min(chunk << shift_, end) - offset, is_set};
}

uint64_t Bitmap::set_bytes(uint64_t end) const {
  const uint64_t chunks = end == 0 ? 0 : std::min(whole_chunks(end - 1), chunks_of(end, shift_));
  uint64_t count = 0;
  bool has_last = false;
  for (uint64_t chunk = 0; chunk < chunks; chunk += kBitsPerWord) {
    const uint64_t bits =
        word(chunk / kBitsPerWord) & before(std::min(chunks - chunk, kBitsPerWord));
    count += static_cast<uint64_t>(std::popcount(bits));
    has_last = (bits >> ((chunks - 1) % kBitsPerWord) & 1) != 0;
  }
  const uint64_t behind = std::min(chunks << shift_, end);
  const bool cuts_last = has_last && chunks << shift_ > end;
  return (count << shift_) - (cuts_last ? (chunks << shift_) - end : 0) + (end - behind);
}

void Bitmap::merge(const Bitmap& other) {
  if (other.shift_ != shift_) throw std::invalid_argument("the granularities differ");
  const uint64_t common = std::min(chunks_, other.whole_chunks(covered_ - 1));
  for (uint64_t chunk = 0; chunk < common; chunk += kBitsPerWord) {
    const uint64_t bits =
        other.word(chunk / kBitsPerWord) & before(std::min(common - chunk, kBitsPerWord));
    if (bits != 0) mark(chunk / kBitsPerWord, bits);
  }
  if (common << shift_ < covered_) set(common << shift_, covered_ - (common << shift_));
}

std::vector<uint64_t> Bitmap::words(uint64_t first_word, size_t count) const {
  const uint64_t all = (chunks_ + kBitsPerWord - 1) / kBitsPerWord;
  std::vector<uint64_t> found;
  for (uint64_t i = first_word; i < all && found.size() < count; i++) found.push_back(word(i));
  return found;
}

}  // namespace ringdisk
