// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ringdisk {

// From now on this process makes no system call that a worker has no use for: no program is
// started, no process signalled or traced; a socket is opened only by one that `reaches_servers`,
// and only a UNIX one, or one that asks the kernel. What it tries all the same fails with EPERM.
// Nothing where the kernel has no seccomp, or under a sanitizer, which needs more.
void confine_worker(bool reaches_servers);

}  // namespace ringdisk
