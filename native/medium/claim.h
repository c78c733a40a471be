// SPDX-License-Identifier: Apache-2.0
// Keeps two writers off one medium, even when one of them is dead. A killed process leaves I/O
// behind that the kernel still carries out; a write of it that lands after a newer one destroys
// data. The lock is on the open file through which the I/O was sent, and each request in flight
// holds a reference to that open file: so it is free exactly when the last of them is over.
//
// An image file stays locked exclusively. A block device is claimed by O_EXCL, and its lock is only
// had exclusively for a moment and then kept shared: who keeps a device's lock exclusively keeps
// udev from handling its events.
#pragma once

#include <string>
#include <utility>

#include "base/fd.h"

namespace ringdisk {

struct ClaimOptions {
  // Others may write to it too: nothing is excluded, only a dead process's I/O is waited for.
  bool share = false;
  // A process that served it may have died a moment ago: do not wait, see pending().
  bool take_over = false;
};

class Claim {
 public:
  // `fd` outlives this. `exclusive_path`: a block device to be claimed by O_EXCL; empty: none.
  Claim(int fd, std::string path, bool read_only, std::string exclusive_path);
  virtual ~Claim() = default;
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  // Without `take_over` somebody else's claim is waited for some seconds (the last user may be
  // closing), then std::system_error(EBUSY) says who to look for. With it, it makes this pending.
  // Again: nothing is done that is done already.
  virtual void take(const ClaimOptions& options);
  // A dead process's I/O may still be under way: nothing may be written.
  bool pending() const { return pending_; }
  // Until it is not; for as long as the device takes. Throws std::system_error.
  virtual void wait();
  // A device's claim by O_EXCL; -1: there is none. Whoever else writes while this process may be
  // dead keeps a copy of it, which adopt() takes back.
  int exclusive() const { return exclusive_.get(); }
  void adopt(Fd exclusive) { exclusive_ = std::move(exclusive); }
  // What the operator should know; empty: nothing.
  const std::string& warning() const { return warning_; }

 protected:
  bool pending_ = false;
  std::string warning_;

 private:
  bool try_both();
  bool try_lock();
  bool try_exclusive();
  int held_mode() const;
  [[noreturn]] void refuse() const;

  const int fd_;
  const std::string path_;
  const bool read_only_;
  const std::string exclusive_path_;
  bool share_ = false;
  bool take_over_ = false;
  bool locked_ = false;
  Fd exclusive_;  // for nothing but O_EXCL: no I/O keeps it open when we die
};

}  // namespace ringdisk
