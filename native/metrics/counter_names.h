// SPDX-License-Identifier: Apache-2.0
// What the counters of a queue are called outside: in JavaScript and on the stats page.
#pragma once

#include <iterator>
#include <tuple>

#include "metrics/counters.h"

namespace ringdisk {

struct CounterName {
  const char* name;
  Counter QueueCounters::* counter;
};

inline constexpr CounterName kCounterNames[] = {
    {"reads", &QueueCounters::reads},
    {"writes", &QueueCounters::writes},
    {"flushes", &QueueCounters::flushes},
    {"barriers", &QueueCounters::barriers},
    {"discards", &QueueCounters::discards},
    {"readBytes", &QueueCounters::read_bytes},
    {"writeBytes", &QueueCounters::write_bytes},
    {"discardBytes", &QueueCounters::discard_bytes},
    {"ioErrors", &QueueCounters::io_errors},
    {"rejected", &QueueCounters::rejected},
    {"unsupported", &QueueCounters::unsupported},
    {"indirect", &QueueCounters::indirect},
    {"notificationsReceived", &QueueCounters::notifications_received},
    {"notificationsSent", &QueueCounters::notifications_sent},
    {"polls", &QueueCounters::polls},
    {"takeBatches", &QueueCounters::take_batches},
    {"taken", &QueueCounters::taken},
    {"batches", &QueueCounters::batches},
    {"answered", &QueueCounters::answered},
    {"grantMaps", &QueueCounters::grant_maps},
    {"grantUnmaps", &QueueCounters::grant_unmaps},
    {"grantCopies", &QueueCounters::grant_copies},
    {"copiedBytes", &QueueCounters::copied_bytes},
    {"readModifyWrites", &QueueCounters::read_modify_writes},
    {"retries", &QueueCounters::retries},
    {"replayed", &QueueCounters::replayed},
    {"redelivered", &QueueCounters::redelivered},
    {"inFlight", &QueueCounters::in_flight},
    {"mappedPages", &QueueCounters::mapped_pages},
    {"bounceBytes", &QueueCounters::bounce_bytes},
    {"brokenQueues", &QueueCounters::broken},
    {"waitingForTokens", &QueueCounters::waiting_for_tokens},
};

// In the order of ValidRequest::Kind.
inline constexpr const char* kOperationNames[] = {"read", "write", "barrier", "flush", "discard"};
static_assert(std::size(kOperationNames) == std::tuple_size_v<decltype(QueueCounters::latency)>);

}  // namespace ringdisk
