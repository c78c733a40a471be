// SPDX-License-Identifier: Apache-2.0
#include "ring/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/kill_point.h"

namespace ringdisk {
namespace {

constexpr uint64_t kMagic = 0x6c616e72756f6a52;  // "Rjournal"
static_assert(sizeof(JournalHeader) <= kPageBytes);

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

}  // namespace

Journal::Journal(const std::string& path, Mode mode, uint32_t slots,
                 const JournalIdentity& identity, uint32_t published)
    : path_(path) {
  if (!path_.empty()) open_file(mode);
  const bool fresh = mode == Mode::create;
  bytes_ = kPageBytes + size_t{slots} * sizeof(JournalSlot);
  if (fd_.valid() && fresh) allocate();
  struct stat status{};
  if (fd_.valid() && ::fstat(fd_.get(), &status) != 0) fail(errno, "cannot read " + path_);
  // Checked before it is mapped: reading behind the end of a file kills the process.
  if (fd_.valid() && static_cast<size_t>(status.st_size) != bytes_)
    fail(ESTALE, "the journal " + path_ + " has another size than this ring's would have");
  map();
  try {
    if (fresh)
      initialise(slots, identity, published);
    else
      check(slots, identity);
  } catch (...) {
    ::munmap(header_, bytes_);
    throw;
  }
}

Journal::~Journal() { ::munmap(header_, bytes_); }

void Journal::open_file(Mode mode) {
  const int create = mode == Mode::create ? O_CREAT : 0;
  fd_ = Fd::checked(::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | create, 0600),
                    "cannot open the journal " + path_);
  if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) return;
  fail(errno == EWOULDBLOCK ? EBUSY : errno,
       "another process serves the ring of the journal " + path_);
}

// Really allocated: on a full tmpfs the first store into a hole would kill the process.
void Journal::allocate() {
  if (::ftruncate(fd_.get(), 0) != 0) fail(errno, "cannot size the journal " + path_);
  if (const int error = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(bytes_)); error != 0)
    fail(error, "cannot allocate the journal " + path_);
}

void Journal::map() {
  const int flags = fd_.valid() ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags, fd_.get(), 0);
  if (memory == MAP_FAILED) fail(errno, "cannot map a queue's journal");
  header_ = static_cast<JournalHeader*>(memory);
  slots_ = reinterpret_cast<JournalSlot*>(static_cast<std::byte*>(memory) + kPageBytes);
}

// The magic comes last: a journal that its maker did not finish is nobody's.
void Journal::initialise(uint32_t slots, const JournalIdentity& identity, uint32_t published) {
  std::memset(static_cast<void*>(header_), 0, bytes_);
  for (uint32_t i = 0; i < slots; i++) set_state(slots_[i], JournalState::free);
  header_->version = kVersion;
  header_->slots = slots;
  header_->identity = identity;
  header_->generation = 1;
  header_->published = published;
  RD_KILL_POINT("connect:journal-nearly");
  std::atomic_ref<uint64_t>(header_->magic).store(kMagic, std::memory_order_release);
}

void Journal::check(uint32_t slots, const JournalIdentity& identity) const {
  if (header_->magic != kMagic) fail(ESTALE, "the journal " + path_ + " was never finished");
  if (header_->version != kVersion)
    fail(ESTALE, "the journal " + path_ + " has version " + std::to_string(header_->version) +
                     ", this daemon reads " + std::to_string(kVersion));
  if (header_->slots != slots || !(header_->identity == identity))
    fail(ESTALE, "the journal " + path_ + " is that of another ring");
}

void Journal::discard() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace ringdisk
