// SPDX-License-Identifier: Apache-2.0
// All workers of the data path, and the one thread that speaks with them: it starts them, asks
// them, hears of their end and starts others in their place. It never touches a medium itself, so
// nothing a medium does can hold it up.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "targets/target.h"
#include "targets/worker_link.h"
#include "worker/messages.h"

namespace ringdisk {

class Workers {
 public:
  struct Opened {
    int error = 0;  // errno
    std::string text{};
    std::unique_ptr<Target> target{};
  };
  using OnOpened = std::function<void(Opened)>;

  // `program`: the worker's; empty: the one beside this code. Throws std::system_error.
  explicit Workers(std::string program = "");
  ~Workers();  // ends all workers; no lane may be left
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Any thread, as all that follows. `done` is called once, on this object's thread, however long
  // it takes. The ticket is for cancel_open().
  uint64_t open(const TargetSpec& spec, OnOpened done);
  // It is answered with ECANCELED at once, if it has not been answered yet, and its worker ended.
  void cancel_open(uint64_t ticket);

  // For targets and lanes.
  using Link = std::shared_ptr<WorkerLink>;
  void measure(const Link& link, Target::Answer answer);
  void claim(const Link& link, const TargetClaim& claim, std::shared_ptr<std::atomic<bool>> fenced,
             Target::Answer answer, Target::Lifted lifted);
  void close(const Link& link, Target::Answer answer);
  void add_lane(const Link& link, uint32_t id, Lanes& lanes, Fd memory);
  void remove_lane(const Link& link, uint32_t id);
  void end_process(const Link& link);
  // A connection to the target's server, for media that have them. `on_told` is called on this
  // object's thread: with its socket, once; before that perhaps without, when there has been none
  // for some time.
  struct Connection {
    std::shared_ptr<Fd> socket{};
    uint32_t peer = 0;  // as what follows: see Medium::Connected
    uint64_t server = 0;
    std::string why{};  // there is none
  };
  struct Wish {
    uint32_t id = 0;     // whose; instead of what it wished for before
    uint32_t ended = 0;  // see Connector::Wish
    uint32_t failures = 0;
    std::function<void(const Connection&)> on_told;
  };
  void connect(const Link& link, Wish wish);
  void forget(const Link& link, uint32_t id);

 private:
  struct LaneRecord {
    uint32_t id;
    Lanes* lanes;
    std::shared_ptr<Fd> bell;
    Fd memory;
  };
  using OnReply = std::function<void(WorkerReply&, std::vector<Fd>&)>;
  struct Unsent {
    WorkerRequest request;
    std::vector<Fd> fds;
  };
  // One worker, and those that came before it.
  struct Record {
    Link link;
    TargetSpec spec;
    MediumFacts facts{};
    uint64_t ticket = 0;
    OnOpened on_opened;  // until it is open
    std::optional<TargetClaim> claim;
    std::vector<Fd> leftovers;  // of the medium; to be closed by a worker
    Fd exclusive;  // the worker's claim by O_EXCL, where reactors write while it is dead
    std::shared_ptr<std::atomic<bool>> fenced;
    Target::Lifted lifted;
    Target::Answer on_closed;  // it is being closed
    std::map<uint32_t, OnReply> asked;
    std::deque<Unsent> unsent;  // it waits for its medium and reads nothing
    std::vector<LaneRecord> lanes;
    std::map<uint32_t, Wish> wishes;  // for connections
    pid_t pid = 0;
    Fd socket;
    Fd ended;                 // a pidfd
    uint32_t generation = 0;  // of its processes
    bool serving = false;     // this one is open and claimed: lanes may be handed to it
    uint64_t serving_since_us = 0;
    uint64_t answered_before = 0;  // calls, by those before it
    bool unfit = false;            // this one has said so
    bool revived_in_vain = false;
    uint64_t revive_at_us = UINT64_MAX;
    uint64_t revive_delay_us = 0;
  };

  // What epoll tells of a record: its pointer, and in the lowest bit which of its two descriptors.
  static constexpr uint64_t kEndedBit = 1;

  static uint64_t now_us();
  // On the thread.
  void run();
  void end_all();
  void run_commands();
  int wait_ms() const;
  void revive_those_due();
  int program_file();
  void start(Record& record);
  void ask(Record& record, WorkerRequest request, std::span<const int> fds, OnReply on_reply);
  bool send(Record& record, const WorkerRequest& request, std::span<const int> fds);
  void keep(Record& record, const WorkerRequest& request, std::span<const int> fds);
  void send_unsent(Record& record);
  void ask_to_open(Record& record);
  void opened(Record& record, WorkerReply& reply, std::vector<Fd>& fds);
  void on_readable(Record& record);
  void on_told(Record& record, WorkerReply& reply, std::vector<Fd>& fds);
  void on_connection(Record& record, const WorkerReply& reply, std::vector<Fd>& fds);
  void send_wish(Record& record, const Wish& wish);
  void send_wishes(Record& record);
  static void tell_of_none(Record& record);
  static void keep_exclusive(Record& record, std::vector<Fd>& fds);
  void on_ended(Record& record);
  void end_process(Record& record);
  void fail_open(Record& record, int error, const std::string& text);
  void fence_is_lifted(Record& record, const std::string& warning);
  static bool was_of_use(const Record& record);
  void revive(Record& record);
  void revived(Record& record, WorkerReply& reply);
  void could_not_revive(Record& record);
  void hand_lanes_over(Record& record);
  void send_lane(Record& record, const LaneRecord& lane);
  void watch(int fd, uint64_t key);
  void unwatch(Fd& fd);
  void watch_for_room(Record& record, bool wanted);
  static void take_all_back(Record& record);
  void let_go(Record& record);
  static void hand_leftovers_over(Record& record);
  static void keep_leftovers(Record& record, std::vector<Fd>& fds);
  static void drain(Record& record);
  Record* find(const Link& link);
  void erase(Record& record);
  void post(std::function<void()> command);

  const std::string program_;
  Fd program_file_;
  Fd epoll_;
  Fd wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> commands_;
  bool stopping_ = false;
  std::atomic<uint64_t> next_ticket_{1};
  uint32_t next_number_ = 1;
  std::unordered_map<WorkerLink*, std::unique_ptr<Record>> records_;
  std::vector<std::unique_ptr<Record>> dead_;  // ended, not to be used any more in this round
  std::thread thread_;
};

}  // namespace ringdisk
