// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"

namespace ringdisk::sim {

// One life of recovery_backend.
class BackendProcess {
 public:
  struct KillPoint {
    std::string name;  // empty: none
    uint32_t count = 1;
  };
  // Throws std::system_error when it can't be started.
  BackendProcess(const std::vector<std::string>& command, const KillPoint& kill_point);
  ~BackendProcess();  // killed if it still lives
  BackendProcess(const BackendProcess&) = delete;
  BackendProcess& operator=(const BackendProcess&) = delete;

  // Becomes readable when the process says something or dies.
  int fd() const { return output_.get(); }
  // Takes what it said; true while it lives.
  bool listen();
  bool connected() const { return connected_; }
  bool disconnected() const { return disconnected_; }
  const std::string& complaint() const { return complaint_; }  // empty: none

  void disconnect();
  void kill();
  // After its death: whether it died by SIGKILL, or ended well after a disconnect.
  bool died_as_expected();
  bool was_killed() const { return was_killed_; }

 private:
  void reap();

  pid_t pid_ = -1;
  Fd input_;
  Fd output_;
  bool connected_ = false;
  bool disconnected_ = false;
  bool complaining_ = false;
  bool was_killed_ = false;
  int status_ = 0;
  std::string complaint_;
};

}  // namespace ringdisk::sim
