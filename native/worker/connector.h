// SPDX-License-Identifier: Apache-2.0
// Makes connections to a server for those who want one, on a thread of its own: whoever lost one is
// told when there is another, however long that takes. One after the other, since all of them are
// of one server.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "medium/medium.h"
#include "worker/messages.h"

namespace ringdisk {

class Connector {
 public:
  struct Wish {
    uint32_t id = 0;
    uint32_t ended = 0;     // the other end of the connection before; 0: there was none
    uint32_t failures = 0;  // so many before it, in a row, were of no use
  };
  using Tell = std::function<void(const WorkerReply&, std::span<const int> fds)>;

  // Both live as long as the process does. Throws std::system_error.
  Connector(Medium& medium, Tell tell);

  // Instead of what the same one wished for before.
  void add(const Wish& wish);
  void forget(uint32_t id);

 private:
  struct Waiting {
    Wish wish;
    uint64_t since_us = 0;  // when the connection before was known to be over; 0: it is not yet
    uint64_t next_us = 0;
    uint64_t delay_us = 0;
    bool told = false;  // that there is none
  };

  void run();
  bool take_due(Waiting& due);
  void try_to_connect(Waiting waiting);
  void put_back(Waiting waiting, const std::string& why);

  Medium& medium_;
  const Tell tell_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Waiting> waiting_;
  uint32_t at_work_ = 0;  // for this one; 0: it has been forgotten meanwhile
};

}  // namespace ringdisk
