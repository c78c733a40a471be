// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ringdisk::bench {

// Before there is a reactor: from now on it and the one frontend take turns, where callgrind gets
// through (see callgrind.cc).
void take_turns();
// The frontend is done: the reactor is not to wait for it.
void end_turns();

}  // namespace ringdisk::bench
