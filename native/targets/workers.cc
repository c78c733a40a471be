// SPDX-License-Identifier: Apache-2.0
#include "targets/workers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/beside_us.h"
#include "targets/lanes.h"
#include "targets/remote_target.h"

namespace ringdisk {
namespace {

constexpr uint64_t kBurialUs = 1'000'000;

}  // namespace

uint64_t Workers::now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

Workers::Workers(std::string program)
    : program_(program.empty() ? beside_us("ringdisk-worker") : std::move(program)),
      epoll_(Fd::checked(::epoll_create1(EPOLL_CLOEXEC), "cannot create an epoll")),
      wake_(Fd::checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "cannot create an eventfd")) {
  watch(wake_.get(), 0);
  try {
    program_file();
  } catch (const std::system_error&) {
    // Each open says so.
  }
  // Signals are for the process's main thread.
  sigset_t all;
  sigset_t previous;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &previous);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

Workers::~Workers() {
  post([this] { stopping_ = true; });
  thread_.join();
}

void Workers::post(std::function<void()> command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  ::eventfd_write(wake_.get(), 1);
}

void Workers::watch(int fd, uint64_t key) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot watch a worker");
}

// To close it is not enough: a process that another thread has just forked has it, too, until it
// executes its program, and so long epoll tells of it, with a record that may be gone.
void Workers::unwatch(Fd& fd) {
  if (fd.valid()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  fd.reset();
}

void Workers::watch_for_room(Record& record, bool wanted) {
  epoll_event event{};
  event.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
  event.data.u64 = reinterpret_cast<uint64_t>(&record);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, record.socket.get(), &event);
}

void Workers::run() {
  ::pthread_setname_np(::pthread_self(), "rd-workers");
  while (!stopping_) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
    for (int i = 0; i < std::max(count, 0); i++) {
      const uint64_t key = events[static_cast<size_t>(i)].data.u64;
      if (key == 0) continue;
      auto& record = *reinterpret_cast<Record*>(key & ~kEndedBit);
      const uint32_t what = events[static_cast<size_t>(i)].events;
      if ((key & kEndedBit) != 0) {
        on_ended(record);
        continue;
      }
      if ((what & EPOLLOUT) != 0) send_unsent(record);
      if ((what & ~static_cast<uint32_t>(EPOLLOUT)) != 0) on_readable(record);
    }
    run_commands();
    revive_those_due();
    dead_.clear();
  }
  end_all();
}

// Those that a medium does not let go of are init's to bury.
void Workers::end_all() {
  for (auto& [link, record] : records_) {
    take_all_back(*record);
    hand_leftovers_over(*record);
    end_process(*record);
  }
  const uint64_t until = now_us() + kBurialUs;
  for (auto& [link, record] : records_) {
    if (record->pid == 0) continue;
    pollfd ended{record->ended.get(), POLLIN, 0};
    const uint64_t now = now_us();
    ::poll(&ended, 1, now < until ? static_cast<int>((until - now) / 1000) : 0);
    ::waitpid(record->pid, nullptr, WNOHANG);
  }
}

void Workers::run_commands() {
  eventfd_t count = 0;
  ::eventfd_read(wake_.get(), &count);
  std::vector<std::function<void()>> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
}

int Workers::wait_ms() const {
  uint64_t next = UINT64_MAX;
  for (const auto& [link, record] : records_) next = std::min(next, record->revive_at_us);
  if (next == UINT64_MAX) return -1;
  const uint64_t now = now_us();
  return next <= now ? 0 : static_cast<int>((next - now) / 1000 + 1);
}

uint64_t Workers::open(const TargetSpec& spec, OnOpened done) {
  const uint64_t ticket = next_ticket_.fetch_add(1, std::memory_order_relaxed);
  post([this, ticket, spec, done = std::move(done)]() mutable {
    auto record = std::make_unique<Record>();
    record->spec = spec;
    record->ticket = ticket;
    record->on_opened = std::move(done);
    try {
      record->link = std::make_shared<WorkerLink>(*this);
      start(*record);
    } catch (const std::system_error& error) {
      return fail_open(*record, error.code().value(), error.what());
    }
    ask_to_open(*record);
    records_.emplace(record->link.get(), std::move(record));
  });
  return ticket;
}

void Workers::cancel_open(uint64_t ticket) {
  post([this, ticket] {
    for (auto& [link, record] : records_) {
      if (record->ticket != ticket || !record->on_opened) continue;
      fail_open(*record, ECANCELED, "given up: " + record->spec.path);
      record->on_closed = [](const TargetAnswer&) {};
      return end_process(*record);
    }
  });
}

void Workers::ask(Record& record, WorkerRequest request, std::span<const int> fds,
                  OnReply on_reply) {
  if (record.pid == 0) {
    WorkerReply none;
    none.type = WorkerReply::Type::failed;
    none.error = EIO;
    put_text(none.text, "the worker of " + record.spec.path + " ended, and none can be started");
    std::vector<Fd> no_fds;
    if (on_reply) on_reply(none, no_fds);
    return;
  }
  request.number = next_number_++;
  if (on_reply) record.asked.emplace(request.number, std::move(on_reply));
  // One that is dead is heard of by its end.
  if (!record.socket.valid()) return;
  if (!record.unsent.empty() || !send(record, request, fds)) keep(record, request, fds);
}

// False: it has not read what it was sent before. Without what it was to be told a worker is of no
// use.
bool Workers::send(Record& record, const WorkerRequest& request, std::span<const int> fds) {
  const int error = send_message(record.socket.get(), bytes_of(request), fds);
  if (error == -EAGAIN) return false;
  if (error != 0) end_process(record);
  return true;
}

// A lane that comes and goes meanwhile leaves nothing behind: a guest may connect and go as often
// as it likes.
void Workers::keep(Record& record, const WorkerRequest& request, std::span<const int> fds) {
  using Type = WorkerRequest::Type;
  if (request.type == Type::remove_lane || request.type == Type::forget) {
    const Type begun = request.type == Type::forget ? Type::connect : Type::add_lane;
    const auto same = [&](const Unsent& one) {
      return one.request.type == begun && one.request.lane == request.lane;
    };
    if (std::erase_if(record.unsent, same) > 0) return;
  }
  Unsent& one = record.unsent.emplace_back(Unsent{request, {}});
  for (const int fd : fds) {
    one.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!one.fds.back().valid()) return end_process(record);
  }
  watch_for_room(record, true);
}

void Workers::send_unsent(Record& record) {
  if (!record.socket.valid()) return;
  while (!record.unsent.empty()) {
    const Unsent& one = record.unsent.front();
    std::vector<int> fds;
    for (const Fd& fd : one.fds) fds.push_back(fd.get());
    if (!send(record, one.request, fds)) return;
    record.unsent.pop_front();
  }
  watch_for_room(record, false);
}

void Workers::ask_to_open(Record& record) {
  WorkerRequest request;
  request.type = WorkerRequest::Type::open;
  request.read_only = record.spec.read_only;
  request.create_bytes = record.spec.create_bytes;
  put_text(request.kind, record.spec.kind);
  put_text(request.path, record.spec.path);
  ask(record, request, {},
      [this, &record](WorkerReply& reply, std::vector<Fd>& fds) { opened(record, reply, fds); });
}

void Workers::opened(Record& record, WorkerReply& reply, std::vector<Fd>& fds) {
  if (reply.type != WorkerReply::Type::opened) {
    fail_open(record, reply.error, reply.text.data());
    record.on_closed = [](const TargetAnswer&) {};
    return end_process(record);
  }
  // Given up, and its worker killed, when this was on its way.
  if (!record.on_opened) return keep_leftovers(record, fds);
  record.facts = reply.facts;
  record.serving = true;
  if (!fds.empty()) record.link->io_ = std::move(fds[0]);
  auto target = std::make_unique<RemoteTarget>(*this, record.link, record.spec, reply.facts);
  target->resize(reply.facts.capabilities.capacity, reply.direct_end);
  std::exchange(record.on_opened, nullptr)({.target = std::move(target)});
}

void Workers::fail_open(Record& record, int error, const std::string& text) {
  if (record.on_opened)
    std::exchange(record.on_opened, nullptr)({.error = error, .text = text, .target = nullptr});
}

void Workers::on_readable(Record& record) {
  if (!record.socket.valid()) return;
  WorkerReply reply;
  std::vector<Fd> fds;
  const int received = receive_message(record.socket.get(), room_in(reply), fds);
  if (received == -EAGAIN) return;
  if (received != static_cast<int>(sizeof reply)) {
    // Its end follows; until then nothing more is heard of it.
    keep_leftovers(record, fds);
    drain(record);
    unwatch(record.socket);
    return end_process(record);
  }
  reply.text.back() = '\0';
  const auto found = record.asked.find(reply.number);
  if (reply.number == 0 || found == record.asked.end()) return on_told(record, reply, fds);
  const OnReply on_reply = std::move(found->second);
  record.asked.erase(found);
  on_reply(reply, fds);
}

void Workers::on_told(Record& record, WorkerReply& reply, std::vector<Fd>& fds) {
  // A lane that it cannot serve, such as for want of a thread: the next one may, a moment later.
  if (reply.type == WorkerReply::Type::failed) {
    record.unfit = true;
    return end_process(record);
  }
  if (reply.type == WorkerReply::Type::connected || reply.type == WorkerReply::Type::unreachable)
    return on_connection(record, reply, fds);
  if (reply.type != WorkerReply::Type::fence_lifted) return;
  keep_exclusive(record, fds);
  fence_is_lifted(record, reply.text.data());
}

void Workers::keep_exclusive(Record& record, std::vector<Fd>& fds) {
  if (record.on_closed) return keep_leftovers(record, fds);
  if (!fds.empty()) record.exclusive = std::move(fds[0]);
}

void Workers::fence_is_lifted(Record& record, const std::string& warning) {
  if (record.fenced) record.fenced->store(false, std::memory_order_release);
  if (record.lifted) std::exchange(record.lifted, nullptr)(warning);
  hand_lanes_over(record);  // where a worker came back and somebody else had the medium
}

void Workers::measure(const Link& link, Target::Answer answer) {
  post([this, link, answer = std::move(answer)] {
    Record* record = find(link);
    if (!record) return answer({.error = EBADF, .text = "the target is closed"});
    WorkerRequest request;
    request.type = WorkerRequest::Type::measure;
    ask(*record, request, {}, [this, link, answer](WorkerReply& reply, std::vector<Fd>&) {
      Record* measured = find(link);
      // The next worker is to know what was told last.
      if (measured && reply.error == 0) measured->facts.capabilities.capacity = reply.capacity;
      answer({.error = reply.error,
              .text = reply.text.data(),
              .capacity = reply.capacity,
              .direct_end = reply.direct_end});
    });
  });
}

void Workers::claim(const Link& link, const TargetClaim& claim,
                    std::shared_ptr<std::atomic<bool>> fenced, Target::Answer answer,
                    Target::Lifted lifted) {
  post([this, link, claim, fenced = std::move(fenced), answer = std::move(answer),
        lifted = std::move(lifted)] {
    Record* record = find(link);
    if (!record) return answer({.error = EBADF, .text = "the target is closed"});
    WorkerRequest request;
    request.type = WorkerRequest::Type::claim;
    request.share = claim.share;
    request.take_over = claim.take_over;
    record->fenced = fenced;
    record->lifted = lifted;
    ask(*record, request, {}, [record, claim, answer](WorkerReply& reply, std::vector<Fd>& fds) {
      if (reply.error == 0) {
        keep_exclusive(*record, fds);
        record->claim = claim;
        record->fenced->store(reply.fenced, std::memory_order_release);
      }
      answer({.error = reply.error, .text = reply.text.data(), .fenced = reply.fenced});
    });
  });
}

void Workers::add_lane(const Link& link, uint32_t id, Lanes& lanes, Fd memory) {
  post([this, link, id, &lanes, bell = lanes.shared_bell(),
        memory = std::make_shared<Fd>(std::move(memory))] {
    Record* record = find(link);
    if (!record) return;
    record->lanes.push_back({id, &lanes, bell, std::move(*memory)});
    // Else with the others, when its worker is ready.
    if (record->serving) send_lane(*record, record->lanes.back());
  });
}

void Workers::remove_lane(const Link& link, uint32_t id) {
  post([this, link, id] {
    Record* record = find(link);
    if (!record) return;
    std::erase_if(record->lanes, [id](const LaneRecord& lane) { return lane.id == id; });
    WorkerRequest request;
    request.type = WorkerRequest::Type::remove_lane;
    request.lane = id;
    ask(*record, request, {}, nullptr);
  });
}

void Workers::send_lane(Record& record, const LaneRecord& lane) {
  WorkerRequest request;
  request.type = WorkerRequest::Type::add_lane;
  request.lane = lane.id;
  const int fds[] = {lane.memory.get(), lane.bell->get()};
  ask(record, request, fds, nullptr);
}

void Workers::end_process(const Link& link) {
  post([this, link] {
    if (Record* record = find(link)) end_process(*record);
  });
}

void Workers::end_process(Record& record) {
  if (record.pid > 0) ::kill(record.pid, SIGKILL);
}

Workers::Record* Workers::find(const Link& link) {
  const auto found = records_.find(link.get());
  return found == records_.end() ? nullptr : found->second.get();
}

}  // namespace ringdisk
