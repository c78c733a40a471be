// SPDX-License-Identifier: Apache-2.0
// The kernel's /dev/xen interfaces, with the few Xen types and constants those headers expect the
// program to bring (xen/include/public/xen.h, grant_table.h).
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

using grant_ref_t = uint32_t;
using domid_t = uint16_t;

#include <xen/evtchn.h>
#include <xen/gntdev.h>

namespace ringdisk::xen {

inline constexpr uint16_t kCopySourceIsGrant = 1u << 0;  // GNTCOPY_source_gref
inline constexpr uint16_t kCopyDestIsGrant = 1u << 1;    // GNTCOPY_dest_gref
inline constexpr int16_t kGrantStatusOkay = 0;           // GNTST_okay

}  // namespace ringdisk::xen
