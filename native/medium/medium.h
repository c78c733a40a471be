// SPDX-License-Identifier: Apache-2.0
// A medium as its worker has it: opened, probed, claimed, measured, and used by calls that may wait
// for it as long as they like. Nothing of the daemon but a worker ever makes one.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/fd.h"
#include "medium/claim.h"
#include "medium/facts.h"
#include "medium/lane_call.h"

namespace ringdisk {

struct MediumSpec {
  std::string kind;  // "file", "block", "nvme", "nbd", "auto": whichever the path is
  std::string path;  // nbd: see NbdAddress
  bool read_only = false;
  uint64_t create_bytes = 0;  // see MediumFacts::head
};

class Medium {
 public:
  struct Size {
    uint64_t capacity;    // bytes, a multiple of 512
    uint64_t direct_end;  // bytes that aligned I/O reaches; what lies behind goes by the worker
  };

  struct Connected {
    Fd socket;
    uint32_t peer = 0;    // see UnixPeers
    uint64_t server = 0;  // equal: the same process; 0: it cannot be told
  };

  virtual ~Medium() = default;
  Medium(const Medium&) = delete;
  Medium& operator=(const Medium&) = delete;

  const MediumFacts& facts() const { return facts_; }
  int fd() const { return fd_.get(); }

  // As it is now. Throws std::system_error.
  virtual Size measure() const = 0;
  // Makes it ours before anything is written. See Claim.
  void claim(const ClaimOptions& options) { claim_->take(options); }
  Claim& claimed() { return *claim_; }
  // Another connection, for media that have them: to those who ask for it, one after the other.
  // Throws as the open did.
  virtual Connected connect() { throw std::invalid_argument("it has no connections"); }
  // Whether the other end of one may still carry out what it was asked over it.
  virtual bool is_open(uint32_t /*peer*/) const { return false; }
  // One call, however long it takes. Bytes or 0, or -errno. Any thread.
  virtual int32_t carry_out(const LaneSubmission& call, std::byte* memory) const;

 protected:
  Medium() = default;
  void warn(const std::string& sentence);
  void set_identity(const std::string& text);

  MediumFacts facts_;
  Fd fd_;
  std::unique_ptr<Claim> claim_;
};

// Throws std::system_error or std::invalid_argument whose message is a sentence for the operator.
std::unique_ptr<Medium> open_medium(const MediumSpec& spec);
// For a worker that stands in for one that died: the same open file, nothing is probed again. An
// NBD server has none: `fd` is nothing, and whoever connects finds what the facts say, or nobody.
std::unique_ptr<Medium> adopt_medium(const MediumSpec& spec, const MediumFacts& facts, Fd fd);

// Whether this file can be read without waiting for its medium, by RWF_NOWAIT.
bool reads_without_waiting(int fd);

}  // namespace ringdisk
