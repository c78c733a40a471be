// SPDX-License-Identifier: Apache-2.0
// Named places where a test build can die as if by SIGKILL: the steps whose order crash recovery
// depends on. In every other build they are nothing at all.
#pragma once

#ifdef RINGDISK_KILL_POINTS

namespace ringdisk {
// Dies here when the environment says so: RINGDISK_KILL_POINT=name and RINGDISK_KILL_COUNT=n kill
// at the n-th time `name` is passed.
void kill_point(const char* name);
}  // namespace ringdisk
#define RD_KILL_POINT(name) ::ringdisk::kill_point(name)

#else

#define RD_KILL_POINT(name) \
  do {                      \
  } while (0)

#endif
