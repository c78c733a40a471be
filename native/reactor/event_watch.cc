// SPDX-License-Identifier: Apache-2.0
#include "reactor/event_watch.h"

#include <algorithm>
#include <utility>

namespace ringdisk {

EventWatch::EventWatch(EventChannels& events, Uring& uring, ReactorCounters& counters)
    : events_(events), uring_(uring), counters_(counters), calls_(events.port_calls()) {
  if (calls_)
    uring_.watch(events_.fd(), Wakeup::event_channel);
  else
    read_next();
}

void EventWatch::note(const Uring::Reaped& reaped) {
  if (!reaped.event_channel) return;
  pending_ = true;
  read_bytes_ = reaped.event_bytes;
  lost_ |= reaped.events_lost;
}

std::span<const Port> EventWatch::take() {
  pending_ = false;
  if (std::exchange(lost_, false)) events_.reset();
  if (!calls_) return take_read();
  counters_.event_reads.add();
  return std::span(taken_).first(calls_->take_pending(taken_));
}

// The kernel gets its buffer back before anybody acts on what was in it: whoever does may submit.
std::span<const Port> EventWatch::take_read() {
  const std::span<Port> taken = std::span(taken_).first(read_bytes_ / sizeof(Port));
  std::copy_n(read_.begin(), taken.size(), taken.begin());
  read_next();
  return taken;
}

void EventWatch::read_next() {
  uring_.read_when_readable(events_.fd(), std::as_writable_bytes(std::span(read_)),
                            Wakeup::event_channel);
}

void EventWatch::unmask(Port port) {
  if (!calls_) return uring_.write(events_.fd(), port);
  counters_.event_unmasks.add();
  calls_->unmask(port);
}

}  // namespace ringdisk
