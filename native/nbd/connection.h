// SPDX-License-Identifier: Apache-2.0
// One client's connection to one server, on one reactor. THE TABLE OF CONTENTS of a request is
// poll() and finish() in connection.cc; the steps are in
//   negotiation.cc  before the first: which export, in which dialect
//   take.cc         out of what was received, checked, cut into parts
//   request/        ordering, memory, the operation for the target, what comes back
//   answer.cc       data and results on their way to the client, status.cc what is data or has
//   changed
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "io/operation.h"
#include "metrics/counters.h"
#include "nbd/buffers.h"
#include "nbd/export.h"
#include "nbd/negotiation.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "nbd/socket.h"
#include "reactor/reactor.h"
#include "request/request_engine.h"
#include "request/transport.h"

namespace ringdisk::nbd {

// Requests that a client has under way; more wait in its socket.
inline constexpr uint32_t kTasksMax = 128;
// What is longer goes to the medium in parts.
inline constexpr uint32_t kPartBytesMax = kRequestBytesMax;
inline constexpr size_t kInBytes = 4u << 20;
inline constexpr size_t kOutBytes = 8u << 20;
// Until a client must have chosen an export.
inline constexpr uint64_t kNegotiationUs = 10'000'000;
// An idle connection's memory is given back after one to two of these.
inline constexpr uint64_t kIdleUs = 30'000'000;

class Connection final : public Transport, private OperationSink {
 public:
  struct Agreed {
    bool is_there = false;  // else it is not to be had any more
    std::shared_ptr<Limits> limits{};
  };
  // Its functions are called on the reactor's thread.
  struct Setup {
    std::shared_ptr<const Exports> exports;
    std::shared_ptr<QueueCounters> counters;
    // The client has chosen the export of this id.
    std::function<Agreed(uint32_t id)> agreed;
    // It has ended and may be deleted, but not at once.
    std::function<void()> gone;
  };
  // On the reactor's thread. Throws std::bad_alloc.
  Connection(Reactor& reactor, Fd socket, Setup setup);
  ~Connection() override;

  // Ends it, whatever the client wants.
  void drop() { close(); }
  // Its client has ended it in order.
  bool said_goodbye() const { return said_goodbye_; }
  // Of what it has agreed on, while that is used.
  void tell(const std::function<void(RequestEngine&)>& what) {
    if (requests_ && !let_go_) what(*requests_);
  }

  bool poll() override;
  void finish() override;
  bool try_sleep() override;
  void on_deadline(uint64_t now_us) override;
  void on_event() override {}
  void look_at_target() override {
    if (requests_) requests_->follow_target();
  }

 private:
  // A request, until it is answered.
  struct Task {
    Request request;
    uint64_t begun = 0;  // bytes of it that the engine has had
    uint32_t parts = 0;  // with the engine
    Error error = Error::none;
    bool flushed = false;     // its data is written: what `fua` asks for is under way, or done
    bool by_writing = false;  // zeroes: the medium has no faster way
    bool answers = false;     // some of its answer is on its way
    bool answered = false;    // all of it is
  };
  struct Part : Slot {
    Task* task = nullptr;
    const std::byte* payload = nullptr;  // null: zeroes
    bool fetched = true;
    size_t promise = 0;  // bytes of out_ that it may still take
  };

  // For the engine.
  void fetch(std::span<Slot* const> writes) override;
  void deliver(std::span<Slot* const> reads) override;
  void answer(std::span<Slot* const> over) override;
  void io_failing(int) override {}
  void io_recovered() override {}

  void finished(Operation& operation) override;
  void received(int32_t result);
  void sent(int32_t result);

  void negotiate();
  void say();
  void agree();

  // take.cc
  bool take();
  bool take_request();
  bool read_ahead(uint64_t bytes);
  bool skip_payload();
  bool begin(Task& task);
  bool begin_read(Task& task);
  bool begin_write(Task& task);
  bool begin_zeroes(Task& task);
  bool begin_answered(Task& task, ValidRequest::Kind kind, uint64_t length);
  bool begin_status(Task& task);
  bool begin_whole(Task& task, ValidRequest::Kind kind);
  Part* make_part(Task& task, ValidRequest::Kind kind, uint64_t length);
  void hand_over(Part& part);
  void nothing_more(Task& task);
  bool goes_alone(const Task& task) const;

  // answer.cc
  void deliver(Part& part);
  void deliver_map(Part& part);
  // status.cc
  bool asks_for_allocation() const;
  size_t status_bytes() const { return agreement_.contexts.size() * kStatusBytesMax; }
  void put_status(Task& task, uint32_t context, std::span<const Extent> extents);
  void put_bitmaps(Task& task);
  void keep_promise(Part& part);
  void part_over(Part& part);
  void end_if_over(Task& task);
  void put_result(uint64_t cookie, uint64_t offset, Error error);
  bool has_room(size_t bytes) const { return out_.room() >= promised_ + bytes; }

  void receive();
  void send();
  void close();
  bool all_over() const { return !current_ && free_tasks_.size() == tasks_.size(); }
  void leave_if_done();
  void let_go();
  static Part& ours(Slot& slot) { return static_cast<Part&>(slot); }

  Reactor& reactor_;
  const Setup setup_;
  InBuffer in_;
  OutBuffer out_;
  Socket socket_;
  std::vector<std::byte> saying_;  // of the negotiation, not yet in out_
  Negotiation negotiation_;
  const uint64_t must_agree_by_us_;

  // Once agreed on:
  ExportFacts facts_;
  Bitmaps bitmaps_;
  bool detect_zeroes_ = false;
  Agreement agreement_;
  ReplyStyle style_;
  std::unique_ptr<SlotPool<Part>> parts_;
  std::vector<Task> tasks_;
  std::vector<Task*> free_tasks_;
  std::unique_ptr<RequestEngine> requests_;

  Task* current_ = nullptr;   // of which something is still to begin
  std::vector<Task*> again_;  // to begin once more
  Task* alone_ = nullptr;     // whose answer nothing may come into
  uint64_t skip_ = 0;         // bytes of a refused request's payload, still to come
  uint64_t wanted_ = 0;       // bytes in in_ that take() waits for
  uint32_t unfetched_ = 0;    // parts whose data is still in in_
  size_t promised_ = 0;       // bytes of out_ that answers under way may take
  bool at_end_ = false;       // of what the client sends
  bool said_goodbye_ = false;
  bool leaving_ = false;  // nothing more is taken; what was is answered
  bool closing_ = false;  // nothing is answered any more
  bool let_go_ = false;
  uint64_t used_at_us_ = 0;
  bool holds_memory_ = false;
};

}  // namespace ringdisk::nbd
