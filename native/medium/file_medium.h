// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "medium/medium.h"

namespace ringdisk {

// A regular file. Bypasses the page cache where its file system can, but for its last bytes where
// their number is no multiple of what that asks for.
//
// All of it is the worker's. RWF_NOWAIT asks a file system not to wait, and what it hands to its
// disk is not told: with as much under way as the disk has requests, or its queue frozen, the
// caller waits for both. Nor is the note of when a file was read or changed, which waits for the
// journal.
class FileMedium final : public Medium {
 public:
  explicit FileMedium(const MediumSpec& spec);
  FileMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd);

  Size measure() const override;
  int32_t carry_out(const LaneSubmission& call, std::byte* memory) const override;

 private:
  void open_direct(const MediumSpec& spec);
  void open_tail(const MediumSpec& spec);
  int32_t read_tail(const LaneSubmission& call, std::byte* memory, uint64_t bytes) const;
  int32_t write_tail(const LaneSubmission& call, const std::byte* memory, uint64_t bytes) const;

  std::string path_;
  Fd tail_;  // the same file by the page cache; not valid where nothing needs it
};

}  // namespace ringdisk
