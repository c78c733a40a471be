// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "medium/medium.h"
#include "medium/nbd_link.h"
#include "medium/unix_peers.h"

namespace ringdisk {

// An export of an NBD server. What may wait for the server before data flows is done here: to reach
// it, and to negotiate. The data itself goes by the reactors' own sockets, which are made here.
class NbdMedium final : public Medium {
 public:
  explicit NbdMedium(const MediumSpec& spec);
  // In place of a dead worker's: no server need be there yet.
  NbdMedium(const MediumSpec& spec, const MediumFacts& facts);

  Size measure() const override;
  Connected connect() override;
  bool is_open(uint32_t peer) const override { return peers_->is_open(peer); }

 private:
  NbdLink checked_link();
  void set_facts(const nbd::ServerFacts& facts, const MediumSpec& spec);
  void warn_of(const nbd::ServerFacts& facts);

  const NbdAddress address_;
  const std::shared_ptr<UnixPeers> peers_ = std::make_shared<UnixPeers>();
  NbdLink spare_;  // the one that it was opened with, until somebody wants one; see connect()
  mutable std::atomic<uint64_t> size_{0};    // as the server told last
  mutable std::atomic<uint64_t> served_{0};  // as measure() told last
};

}  // namespace ringdisk
