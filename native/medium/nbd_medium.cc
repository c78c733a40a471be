// SPDX-License-Identifier: Apache-2.0
#include "medium/nbd_medium.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "base/units.h"
#include "medium/probe.h"

namespace ringdisk {
namespace {

using Clock = std::chrono::steady_clock;

// What channels count on.
constexpr uint16_t kUsed = nbd::kSendFlush | nbd::kSendTrim | nbd::kSendWriteZeroes |
                           nbd::kSendFastZero | nbd::kCanMultiConn;
constexpr auto kPatience = std::chrono::seconds(5);
constexpr auto kRetry = std::chrono::milliseconds(20);

// Nobody is kept off an export: the protocol has nothing for that. But a dead client's requests are
// waited for, until the server has closed what it had with it.
class NbdClaim final : public Claim {
 public:
  NbdClaim(const std::string& socket, bool read_only, std::shared_ptr<UnixPeers> peers)
      : Claim(-1, socket, read_only, ""),
        path_(socket),
        read_only_(read_only),
        peers_(std::move(peers)) {}

  // Of what others have left behind, whoever they were, it is waited for some seconds only.
  void take(const ClaimOptions& options) override {
    const auto deadline = Clock::now() + kPatience;
    while (serves_the_dead()) {
      if (options.take_over) {
        pending_ = true;
        return;
      }
      if (Clock::now() >= deadline) {
        warning_ = "the NBD server at " + path_ +
                   " still works for a client that is gone: what that asked for may land late";
        return;
      }
      std::this_thread::sleep_for(kRetry);
    }
  }

  void wait() override {
    while (serves_the_dead()) std::this_thread::sleep_for(kRetry);
    pending_ = false;
  }

 private:
  bool serves_the_dead() const {
    return !read_only_ && peers_->serves_the_dead(path_).value_or(false);
  }

  const std::string path_;
  const bool read_only_;
  const std::shared_ptr<UnixPeers> peers_;
};

uint64_t capacity_of(uint64_t size) { return size / kSectorBytes * kSectorBytes; }

}  // namespace

NbdMedium::NbdMedium(const MediumSpec& spec) : address_(NbdAddress::parse(spec.path)) {
  spare_ = connect_nbd(address_);
  size_ = spare_.facts.size;
  facts_.kind = MediumKind::nbd;
  set_facts(spare_.facts, spec);
  warn_of(spare_.facts);
  set_identity("nbd socket " + address_.socket + " export " + address_.name);
  claim_ = std::make_unique<NbdClaim>(address_.socket, spec.read_only, peers_);
}

NbdMedium::NbdMedium(const MediumSpec& spec, const MediumFacts& facts)
    : address_(NbdAddress::parse(spec.path)) {
  facts_ = facts;
  size_ = facts.capabilities.capacity;
  served_ = facts.capabilities.capacity;
  claim_ = std::make_unique<NbdClaim>(address_.socket, spec.read_only, peers_);
}

void NbdMedium::set_facts(const nbd::ServerFacts& facts, const MediumSpec& spec) {
  const std::string who = "the NBD server at " + address_.socket;
  const bool is_read_only = (facts.flags & nbd::kReadOnly) != 0;
  if (is_read_only && !spec.read_only)
    throw std::system_error(EROFS, std::generic_category(), who + " lets nobody write there");
  if (facts.block_min > kIoAlignmentMax)
    throw std::invalid_argument(who + " takes blocks of " + std::to_string(facts.block_min) +
                                " bytes and no smaller ones; 4096 is the most that is served");
  Capabilities& can = facts_.capabilities;
  can.capacity = capacity_of(facts.size);
  if (can.capacity == 0) throw std::invalid_argument(who + " has an export without any bytes");
  can.io_alignment = std::max<uint32_t>(facts.block_min, kSectorBytes);
  can.physical_block = std::clamp(facts.block_preferred, can.io_alignment, kIoAlignmentMax);
  if (facts.block_max < can.io_alignment)
    throw std::invalid_argument(who + " takes less than a block at a time");
  can.read_only = spec.read_only;
  can.discard = !spec.read_only && (facts.flags & nbd::kSendTrim) != 0;
  can.discard_granularity = can.discard ? can.physical_block : 0;
  can.one_channel = (facts.flags & nbd::kCanMultiConn) == 0;
  facts_.nbd.flags = facts.flags;
  facts_.nbd.bytes_max = facts.block_max / can.io_alignment * can.io_alignment;
}

void NbdMedium::warn_of(const nbd::ServerFacts& facts) {
  const bool writes = !facts_.capabilities.read_only;
  if (writes && !peers_->serves_the_dead(address_.socket))
    warn(
        "the kernel does not tell whether the NBD server is through with a connection that has "
        "ended: a write of it may land late");
  if (writes && (facts.flags & nbd::kSendFlush) == 0)
    warn("the NBD server has no flush: what it has answered is as lasting as it makes it");
  if (facts.size % kSectorBytes != 0)
    warn("the last " + std::to_string(facts.size % kSectorBytes) +
         " bytes of the export are less than a sector, and not served");
}

// Where one connection is all there is, what was told last stands.
Medium::Size NbdMedium::measure() const {
  const bool is_first = served_ == 0;
  if (!is_first && !facts_.capabilities.one_channel) size_ = connect_nbd(address_).facts.size;
  served_ = capacity_of(size_);
  return {served_, UINT64_MAX};
}

Medium::Connected NbdMedium::connect() {
  if (!spare_.socket.valid() || !is_quiet(spare_.socket.get())) {
    spare_.socket.reset();
    spare_ = checked_link();
  }
  Connected connected;
  connected.peer = peers_->peer_of(spare_.socket.get());
  connected.server = server_of(spare_.socket.get());
  // Else io_uring would not wait for it.
  ::fcntl(spare_.socket.get(), F_SETFL, 0);
  connected.socket = std::move(spare_.socket);
  return connected;
}

// Another disk under the same name is not served on.
NbdLink NbdMedium::checked_link() {
  NbdLink link = connect_nbd(address_);
  const Capabilities& can = facts_.capabilities;
  const auto refuse = [&](const std::string& how) {
    throw std::invalid_argument("the NBD server at " + address_.socket + " came back with " + how);
  };
  if (capacity_of(link.facts.size) < served_)
    refuse("an export of " + std::to_string(link.facts.size) + " bytes instead of " +
           std::to_string(served_));
  if (!can.read_only && (link.facts.flags & nbd::kReadOnly) != 0)
    refuse("an export that nobody may write to");
  if ((facts_.nbd.flags & kUsed & ~link.facts.flags) != 0) refuse("an export that can less");
  if (link.facts.block_min > can.io_alignment || link.facts.block_max < facts_.nbd.bytes_max)
    refuse("other sizes of blocks");
  size_ = link.facts.size;
  return link;
}

}  // namespace ringdisk
