// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

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

  // Any thread.
  bool discards_are_cancelled() const {
    return discards_are_cancelled_.load(std::memory_order_relaxed);
  }
  // Done, or failed: by the home.
  void back(MirrorErrand& errand);

 private:
  bool send(Operation& operation);
  void over(MirrorErrand& errand);

  MirrorHome& home_;
  MirrorState& state_;
  Lanes& lanes_;
  std::atomic<bool> discards_are_cancelled_{false};
  std::vector<MirrorErrand> errands_;
  WorkList<MirrorErrand> free_;
};

}  // namespace ringdisk
