// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/fd.h"
#include "platform/platform.h"

namespace ringdisk {

class XenEventChannels final : public EventChannels {
 public:
  XenEventChannels();  // throws std::system_error
  int bind(Domid domid, Port remote_port, Port& local_port) override;
  void unbind(Port local_port) override;
  void notify(Port local_port) override;
  void reset() override;
  int fd() const override { return evtchn_.get(); }

 private:
  Fd evtchn_;
};

}  // namespace ringdisk
