// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk {

// A sector is 512 bytes everywhere in blkif, whatever the medium's logical block is (blkif.h).
inline constexpr uint32_t kSectorBytes = 512;
inline constexpr uint32_t kSectorShift = 9;
// Xen grants are 4 KiB pages on every architecture this code runs on.
inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint32_t kSectorsPerPage = kPageBytes / kSectorBytes;

using Domid = uint16_t;
using GrantRef = uint32_t;
using Port = uint32_t;  // an event channel port, local unless the name says remote

}  // namespace ringdisk
