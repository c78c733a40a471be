// SPDX-License-Identifier: Apache-2.0
// The worker's side of the socket: what the daemon asks for is done on the main thread, one after
// the other, however long it takes. Only waiting for a dead process's I/O has a thread of its own.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "medium/medium.h"
#include "worker/connector.h"
#include "worker/executor.h"
#include "worker/messages.h"

namespace ringdisk {

class Server {
 public:
  Server(int socket, WorkerPage& page) : socket_(socket), page_(page) {}
  // Until the daemon closes its end: true. False: it says what nobody understands.
  bool run();

 private:
  void handle(const WorkerRequest& request, std::vector<Fd>& fds);
  void open(const WorkerRequest& request, std::vector<Fd>& fds);
  void claim(const WorkerRequest& request, std::vector<Fd>& fds);
  void measure(const WorkerRequest& request);
  void add_lane(const WorkerRequest& request, std::vector<Fd>& fds);
  void connect(const WorkerRequest& request);
  bool daemon_has_io() const;
  void reply_with_claim(const WorkerReply& reply) const;
  void reply(const WorkerReply& reply, std::span<const int> fds = {}) const;

  const int socket_;
  WorkerPage& page_;
  std::unique_ptr<Medium> medium_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Connector> connector_;  // from the first that is asked for
};

}  // namespace ringdisk
