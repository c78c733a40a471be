// SPDX-License-Identifier: Apache-2.0
// What a worker finds when it is started; its arguments are the daemon's process number, and
// the kind and path of its target.
#pragma once

namespace ringdisk {

inline constexpr int kWorkerSocketFd = 3;
inline constexpr int kWorkerPageFd = 4;
inline constexpr int kWorkerProgramFd = 5;

}  // namespace ringdisk
