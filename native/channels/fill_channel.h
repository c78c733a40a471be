// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "channels/errands.h"
#include "channels/fill_home.h"
#include "channels/fill_state.h"
#include "targets/channel_before.h"

namespace ringdisk {

// A queue's channel of a disk that is being filled from a source. What touches only chunks that are
// here goes to the disk itself, at once; all else is the home's. When everything is here it looks
// at one flag.
class FillChannel final : public ChannelBefore {
 public:
  // `home` and `state` outlive it.
  FillChannel(FillHome& home, FillState& state, std::unique_ptr<TargetChannel> local,
              const ChannelContext& context);

  bool start(Operation& operation) override;
  void cancel_discards() override;

 private:
  bool send(Operation& operation, FillWork::Kind kind);
  void cover(FillErrand& errand, const Operation& operation) const;

  FillHome& home_;
  FillState& state_;
  Errands<FillErrand> errands_;
};

}  // namespace ringdisk
