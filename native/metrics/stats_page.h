// SPDX-License-Identifier: Apache-2.0
// A queue's counters in a file, the stats page: whoever monitors a host maps or reads it, and
// neither the data path nor the daemon is asked. What it says stays readable when the daemon dies.
//
//   0      text, zero-filled: one line of JSON that says where everything is, see stats_page.cc
//   4096   the counters and histograms, 64-bit words in the host's byte order, as the data path
//          writes them; each is read whole, together they may be from different moments
#pragma once

#include <memory>
#include <string>

#include "metrics/counters.h"

namespace ringdisk {

// Any thread. The counters live in a new file that takes the place of `path`, and in plain memory
// where it can't be made (no room, say) or `path` is empty: statistics stop no disk. The file stays
// when the counters go; whoever removes the queue's journal removes it too.
std::shared_ptr<QueueCounters> make_counters(const std::string& path);

}  // namespace ringdisk
