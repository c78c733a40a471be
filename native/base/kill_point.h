// SPDX-License-Identifier: Apache-2.0
// Named places where a test build can die as if by SIGKILL: the steps whose order crash recovery
// depends on. And bugs that a test build can have on purpose, to prove that the tests would see
// them. In every other build both are nothing at all.
#pragma once

#include <cstdint>

#ifdef RINGDISK_KILL_POINTS

namespace ringdisk {
// Dies here when the environment says so: RINGDISK_KILL_POINT=name and RINGDISK_KILL_COUNT=n kill
// at the n-th time `name` is passed.
void kill_point(const char* name);
// Whether RINGDISK_PLANT names this bug.
bool planted(const char* name);
// With the bug "poison", a request for sector 5328 (8 x 666) crashes whoever takes or replays it.
void poison(uint64_t sector);
}  // namespace ringdisk
#define RD_KILL_POINT(name) ::ringdisk::kill_point(name)
#define RD_POISON(sector) ::ringdisk::poison(sector)
#define RD_PLANTED(name) ::ringdisk::planted(name)

#else

#define RD_KILL_POINT(name) \
  do {                      \
  } while (0)
#define RD_POISON(sector) \
  do {                    \
  } while (0)
#define RD_PLANTED(name) false

#endif
