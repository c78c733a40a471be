// SPDX-License-Identifier: Apache-2.0
#include "engine/home_place.h"

namespace ringdisk {

HomePlace::HomePlace(Reactor& reactor, uint32_t depth)
    : reactor_(reactor),
      memory_(reactor.bounce()),
      alarms_([this](uint64_t at_us) { reactor_.wake_by(*this, at_us); }),
      context_{.uring = reactor.uring(),
               .lanes = reactor.lanes(),
               .depth = depth,
               .memory = memory_,
               .alarms = alarms_,
               .counters = counters_} {
  reactor_.add(*this);
}

HomePlace::~HomePlace() { reactor_.remove(*this); }

}  // namespace ringdisk
