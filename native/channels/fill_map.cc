// SPDX-License-Identifier: Apache-2.0
#include "channels/fill_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace ringdisk {
namespace {

constexpr uint64_t kLiveMagic = 0x6576696c6c6c6652;  // "Rflllive"

// FNV-1a.
uint64_t hash(std::span<const std::byte> bytes) {
  uint64_t value = 0xcbf2'9ce4'8422'2325ull;
  for (const std::byte byte : bytes)
    value = (value ^ static_cast<uint8_t>(byte)) * 0x0000'0100'0000'01b3ull;
  return value;
}

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

// Which start of the host it was: what is older than that may have lost what it stands for.
std::array<char, 36> read_boot_id() {
  std::array<char, 36> text{};
  const Fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!file.valid() || ::read(file.get(), text.data(), text.size()) < 0) text.fill('?');
  return text;
}

}  // namespace

uint64_t FillHeader::computed_checksum() const {
  return hash(std::as_bytes(std::span(this, 1)).first(offsetof(FillHeader, checksum)));
}

FillHead read_fill_head(std::span<const std::byte> head, FillHeader& header) {
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (std::ranges::all_of(head.first(kFillHeadBytes), is_zero)) return FillHead::fresh;
  std::memcpy(&header, head.data(), sizeof header);
  const bool is_ours = header.magic == FillHeader::kMagic &&
                       header.version == FillHeader::kVersion &&
                       header.checksum == header.computed_checksum();
  return is_ours ? FillHead::ours : FillHead::foreign;
}

// A device's number and its sequence are new with every start of the host; a file is the same on
// whichever device its file system is found.
uint64_t lasting_identity(std::string_view identity) {
  if (identity.empty() || identity.find(" sequence ") != std::string_view::npos) return 0;
  const size_t inode = identity.find(" inode ");
  if (identity.starts_with("file ") && inode != std::string_view::npos)
    identity.remove_prefix(inode);
  return hash_of(identity);
}

uint64_t hash_of(std::string_view text) { return hash(std::as_bytes(std::span(text))); }

struct FillLive::Header {
  std::atomic<uint64_t> magic;
  std::array<uint64_t, 2> id;
  uint64_t chunks;
  std::array<char, 36> boot;
  std::atomic<uint64_t> rate;
  std::atomic<uint32_t> paused;
};

FillLive::FillLive(std::string path, const FillHeader& header) : path_(std::move(path)) {
  static_assert(sizeof(Header) <= kFillBlockBytes);
  const uint64_t chunks = fill_chunks(header.source_bytes, header.chunk_bytes);
  bytes_ = fill_map_bytes(chunks);
  if (!path_.empty()) open_file();
  const int flags = fd_.valid() ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags, fd_.get(), 0);
  if (memory == MAP_FAILED) fail(errno, "cannot map a fill's chunks");
  header_ = static_cast<Header*>(memory);
  words_ = reinterpret_cast<Word*>(static_cast<std::byte*>(memory) + kFillBlockBytes);
  if (!is_of(header)) initialise(header);
}

FillLive::~FillLive() { ::munmap(header_, bytes_); }

// Really allocated: on a full tmpfs the first store into a hole would kill the process.
void FillLive::open_file() {
  fd_ = Fd::checked(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600),
                    "cannot open the map " + path_);
  struct stat status{};
  if (::fstat(fd_.get(), &status) != 0) fail(errno, "cannot read the map " + path_);
  if (static_cast<size_t>(status.st_size) == bytes_) return;
  if (::ftruncate(fd_.get(), 0) != 0) fail(errno, "cannot size the map " + path_);
  if (const int error = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(bytes_)); error != 0)
    fail(error, "cannot allocate the map " + path_);
}

// The magic comes last: a map that its maker did not finish says nothing.
void FillLive::initialise(const FillHeader& header) {
  header_->magic.store(0, std::memory_order_release);
  std::memset(static_cast<void*>(header_), 0, bytes_);
  header_->id = header.id;
  header_->chunks = fill_chunks(header.source_bytes, header.chunk_bytes);
  header_->boot = read_boot_id();
  header_->magic.store(kLiveMagic, std::memory_order_release);
}

bool FillLive::is_of(const FillHeader& header) const {
  return header_->magic.load(std::memory_order_acquire) == kLiveMagic && header_->id == header.id &&
         header_->chunks == fill_chunks(header.source_bytes, header.chunk_bytes) &&
         header_->boot == read_boot_id();
}

std::atomic<uint64_t>& FillLive::rate() const { return header_->rate; }
std::atomic<uint32_t>& FillLive::paused() const { return header_->paused; }

void FillLive::discard() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace ringdisk
