// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/fifo.h"
#include "protocol/nbd_replies.h"
#include "targets/lanes.h"
#include "targets/nbd_server.h"
#include "targets/nbd_stream.h"
#include "targets/target.h"

namespace ringdisk {

std::unique_ptr<TargetChannel> open_nbd_channel(std::shared_ptr<NbdServer> server,
                                                const ChannelContext& context);

// A connection to an NBD server, and the next one when it is lost. What was not answered is sent
// again, but not before the server has closed its end of the old connection, since until then it
// may still carry out what it had read. When none has been had for some time what waits fails.
class NbdChannel final : public TargetChannel {
 public:
  // `requests_max`: with the server at a time; more wait here.
  NbdChannel(std::shared_ptr<NbdServer> server, const ChannelContext& context,
             uint32_t requests_max);
  ~NbdChannel() override;

  bool start(Operation& operation) override;
  bool advance(Operation& operation, int32_t part_result) override;
  void cancel_discards() override;
  void break_off() override { breaks_off_ = true; }
  void close(std::function<void()> done) override;

 private:
  enum class State : uint8_t { idle, wants_one, up, ends, closed };
  // First in, first out, linked by Operation::next.
  // What others know it by, who may outlive it.
  struct Seat {
    std::mutex mutex;
    Lanes* lanes;
    NbdChannel* channel;  // for its reactor's thread
  };

  bool takes(Operation& operation) const;
  void send_waiting();
  void encode(Operation& operation);
  void look();
  bool step();
  void answered(uint32_t tag, nbd::Error error);
  void end_operation(Operation& operation, int32_t result);
  void fail_all();
  void want_connection();
  void told(const Workers::Connection& connection);
  void lose();
  void left();
  void progress();

  const std::shared_ptr<NbdServer> server_;
  const MediumFacts& facts_;
  Uring& uring_;
  const uint32_t id_;
  const std::shared_ptr<Seat> seat_;
  NbdStream stream_;
  nbd::Replies replies_;
  std::vector<Operation*> by_tag_;
  Fifo<Operation> waiting_;  // to be sent
  NbdWaiting waits_;
  State state_ = State::idle;
  bool breaks_off_ = false;    // its end is not told the server
  bool is_down_ = false;       // there has been no connection for some time
  bool has_answered_ = false;  // this connection
  uint32_t peer_ = 0;
  uint32_t failures_ = 0;  // connections in a row that answered nothing
  std::function<void()> done_;
};

}  // namespace ringdisk
