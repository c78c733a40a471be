// SPDX-License-Identifier: Apache-2.0
// A machine without a hypervisor: a folder (machine.h says what is in it) stands for Xen's memory,
// grant tables and event channels, so that the whole data path runs on any Linux.
//
// Not emulated, so nothing here may be concluded about it:
// - the cost of hypercalls, grant operations and interrupts, and any of Xen's limits (maptrack,
//   grant table size, ports per domain);
// - Xen's refusals: a guest owns its files and may do to them what Xen would not let it. Sizes are
//   checked once, when a guest is opened: one that truncates its memory afterwards raises SIGBUS
//   here, where on Xen it could not;
// - pages that are not ordinary memory: gntdev's pages have rules for pinning and unmapping that
//   the pages of a file do not have;
// - which domain may use a grant or a port: there is one backend domain;
// - a backend that is killed: Xen would unmap its grants, here their use counts stay up until the
//   guest's forget_backend();
// - domain death, suspend and migration.
//
// Keep the folder on tmpfs: guest memory on a disk is written back to it.
#pragma once

#include <memory>
#include <string>

#include "platform/platform.h"

namespace ringdisk {

// Throws std::system_error, from here, when `machine_dir` is not a folder.
std::unique_ptr<Platform> make_loopback_platform(const std::string& machine_dir);

}  // namespace ringdisk
