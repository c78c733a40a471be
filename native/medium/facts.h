// SPDX-License-Identifier: Apache-2.0
// What is found out when a medium is opened: by the worker, for the daemon. Plain data, since it
// crosses from one process to the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "medium/nvme_command.h"

namespace ringdisk {

// Probed when the medium is opened. All sizes in bytes.
struct Capabilities {
  uint64_t capacity = 0;          // multiple of 512
  uint32_t io_alignment = 512;    // 512 to 4096: offsets and lengths must be multiples of it
  uint32_t physical_block = 512;  // told to the guest as physical-sector-size
  bool read_only = false;
  bool direct = false;  // the page cache is bypassed
  bool discard = false;
  bool secure_discard = false;
  uint32_t discard_granularity = 0;
  uint32_t discard_alignment = 0;
  bool rotational = false;
  bool one_channel = false;  // it is used by one queue at a time
};

enum class MediumKind : uint8_t { file, block, nvme, null, fill, nbd };

// kind nbd: what a channel needs of nbd::ServerFacts.
struct NbdFacts {
  uint16_t flags = 0;
  uint32_t bytes_max = 0;  // of a read or write
};

struct MediumFacts {
  MediumKind kind = MediumKind::file;
  Capabilities capabilities{};
  NvmeGeometry nvme{};  // kind nvme only
  NbdFacts nbd{};       // kind nbd only
  // What can be done without ever waiting for the medium, by the reactors themselves through the
  // descriptor that comes with this. Where neither can, no descriptor comes: closing it may wait.
  bool reads_without_waiting = false;
  bool writes_without_waiting = false;
  // Equal texts: the same medium. Empty: it cannot be told from another.
  std::array<char, 512> identity{};
  // Of a file that is made where it is not there: what it begins with.
  std::array<std::byte, 128> head{};
  // Sentences for the operator, one a line; empty: none.
  std::array<char, 768> warnings{};
};

}  // namespace ringdisk
