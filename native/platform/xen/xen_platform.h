// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "platform/platform.h"

namespace ringdisk {

// Real Xen through the kernel's /dev/xen/gntdev and /dev/xen/evtchn.
std::unique_ptr<Platform> make_xen_platform();

}  // namespace ringdisk
