// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "channels/errands.h"
#include "channels/filter.h"
#include "channels/mirror_state.h"
#include "channels/mirror_work.h"

namespace ringdisk {

// A queue's channel of a disk that is mirrored, in front of the disk's own. Reads go straight on.
// What changes the disk is done by the home, which is one for all queues, so that it comes to both
// ends in one order. When the mirror is over it looks at one flag.
class MirrorFilter final : public Filter {
 public:
  // No other filter has this number.
  static constexpr uint32_t kId = UINT32_MAX - 1;

  // `home` and `state` outlive it.
  MirrorFilter(MirrorHome& home, MirrorState& state, const ChannelContext& context);

  bool start(Operation& operation) override;
  void cancel_discards() override;

 private:
  bool send(Operation& operation);

  MirrorHome& home_;
  MirrorState& state_;
  Errands<MirrorErrand> errands_;
};

}  // namespace ringdisk
