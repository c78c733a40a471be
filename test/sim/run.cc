// SPDX-License-Identifier: Apache-2.0
#include "run.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "random.h"

namespace ringdisk::sim {
namespace {

constexpr Domid kDomid = 1;
constexpr uint32_t kGuestPages = 16384;
// Small, so that requests overlap all the time.
constexpr uint64_t kDiskSectors = 2048;
constexpr uint32_t kDepth = 24;  // requests in flight per queue
constexpr int kPatienceMs = 20'000;
constexpr uint32_t kReadBackSectors = 64;

void make_disk(const std::string& path) {
  const Fd file =
      Fd::checked(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), path);
  if (::ftruncate(file.get(), kDiskSectors * kSectorBytes) != 0)
    throw std::system_error(errno, std::generic_category(), path);
}

}  // namespace

Layout plan_layout(uint64_t seed) {
  constexpr const char* kGrants[] = {"persistent", "copy", "map"};
  Random random(seed, Random::Stream::layout, 0);
  Layout layout;
  layout.grants = kGrants[random.below(3)];
  layout.queues = random.percent(50) ? 1 : random.between(2, 4);
  layout.ring_page_order = random.below(3);
  layout.abi = random.percent(50) ? Abi::x86_64 : Abi::x86_32;
  return layout;
}

Run::Run(const RunOptions& options)
    : options_(options),
      target_(options.dir + "/disk"),
      bitmap_(options.dir + "/bitmap"),
      domain_(options.dir, kDomid, kGuestPages),
      model_(kDiskSectors) {
  make_disk(target_);
  renew_bitmap();
  for (uint32_t i = 0; i < options_.layout.queues; i++)
    queues_.push_back(
        std::make_unique<SimQueue>(domain_, model_, result_.tally, options_.layout.ring_page_order,
                                   options_.layout.abi, options_.layout.grants == "persistent"));
}

RunResult Run::go() {
  for (uint32_t i = 0; i < options_.cycles; i++) {
    check_bitmap(i);
    try_spoilt_journal(i);
    cycle(plan_kill(options_.seed, i, options_.kill_point));
  }
  settle();
  return result_;
}

// One life: connect (or take over), work until it dies or has done enough, and then it ends.
void Run::cycle(const KillPlan& plan) {
  start(plan);
  bool from_outside = false;
  if (wait_until_connected() && work(next_request_ + plan.requests)) {
    if (plan.disconnect) {
      backend_->disconnect();
      wait_until_disconnected();
    } else {
      backend_->kill();
      from_outside = true;
    }
  }
  bury();
  if (backend_->was_killed()) {
    result_.kills++;
    result_.kills_by_point[from_outside ? "" : plan.kill_point]++;
  }
  backend_.reset();
}

void Run::start(const KillPlan& plan) {
  const Layout& layout = options_.layout;
  std::vector<std::string> command = {options_.backend,
                                      options_.dir,
                                      target_,
                                      std::to_string(kDomid),
                                      layout.abi == Abi::x86_32 ? "x86_32" : "x86_64",
                                      layout.grants,
                                      plan.faulty ? "faulty" : "sound",
                                      bitmap_};
  for (size_t i = 0; i < queues_.size(); i++) {
    std::string queue =
        std::to_string(queues_[i]->port()) + (has_journal(i) ? ":1:" : ":0:") + journal(i) + ":";
    for (const GrantRef gref : queues_[i]->ring_refs()) queue += std::to_string(gref) + ",";
    command.push_back(std::move(queue));
  }
  backend_.emplace(command, BackendProcess::KillPoint{plan.kill_point, plan.count});
}

std::string Run::journal(size_t queue) const {
  return options_.dir + "/journal" + std::to_string(queue);
}

// Whether there is something to take over: a journal that its maker finished. Its first word, the
// magic, is written last.
bool Run::has_journal(size_t queue) const {
  std::ifstream file(journal(queue), std::ios::binary);
  uint64_t magic = 0;
  file.read(reinterpret_cast<char*>(&magic), sizeof magic);
  return file && magic != 0;
}

bool Run::wait_until_connected() {
  while (backend_->listen()) {
    check_complaint();
    if (backend_->connected()) return true;
    reap_all();
    wait();
  }
  return false;
}

// Keeps all queues busy until so many requests were submitted. False: the backend died first.
bool Run::work(uint64_t until) {
  while (backend_->listen()) {
    check_complaint();
    if (next_request_ >= until) return true;
    submit_some(until);
    if (!reap_all()) wait();
  }
  return false;
}

bool Run::wait_until_disconnected() {
  while (backend_->listen()) {
    check_complaint();
    if (!reap_all()) wait();
  }
  return false;
}

void Run::submit_some(uint64_t until) {
  for (size_t tries = 0; tries < queues_.size() && next_request_ < until;) {
    SimQueue& queue = *queues_[next_queue_++ % queues_.size()];
    if (queue.full() || queue.in_flight() >= kDepth) {
      tries++;
      continue;
    }
    queue.submit(next_request_, plan_request(options_.seed, next_request_, kDiskSectors));
    next_request_++;
    tries = 0;
  }
  for (const auto& queue : queues_) queue->publish();
}

bool Run::reap_all() {
  uint32_t answers = 0;
  for (const auto& queue : queues_) answers += queue->reap();
  return answers > 0;
}

uint32_t Run::in_flight() const {
  uint32_t count = 0;
  for (const auto& queue : queues_) count += queue->in_flight();
  return count;
}

void Run::wait() {
  std::vector<pollfd> waited = {{backend_->fd(), POLLIN, 0}};
  for (const auto& queue : queues_) {
    if (!queue->arm()) return;
    waited.push_back({domain_.event_fd(queue->port()), POLLIN, 0});
  }
  if (::poll(waited.data(), waited.size(), kPatienceMs) == 0) {
    std::string text = "the backend is silent; unanswered:";
    for (const auto& queue : queues_) text += queue->unanswered();
    throw Violation(text);
  }
  for (size_t i = 0; i < queues_.size(); i++)
    if (waited[i + 1].revents != 0) domain_.wait(queues_[i]->port(), 0);
}

void Run::check_complaint() const {
  if (!backend_->complaint().empty()) throw Violation("the backend said: " + backend_->complaint());
}

// Answers that were shown before the death count; what Xen would clear up is cleared up.
void Run::bury() {
  while (backend_->listen()) wait();
  check_complaint();
  reap_all();
  if (!backend_->died_as_expected()) throw Violation("the backend crashed");
  if (!backend_->was_killed() && domain_.grants_in_use() != 0)
    throw Violation("pages are in use after a disconnect");
  domain_.forget_backend();
}

void Run::settle() {
  start({});
  if (!wait_until_connected()) throw Violation("the last backend died");
  while (in_flight() > 0)
    if (!work(next_request_))
      throw Violation("the last backend died");
    else if (!reap_all())
      wait();
  read_everything();
  backend_->disconnect();
  wait_until_disconnected();
  bury();
  check_bitmap(options_.cycles);
  for (size_t i = 0; i < queues_.size(); i++)
    if (std::filesystem::exists(journal(i))) throw Violation("a journal outlived its disconnect");
}

void Run::read_everything() {
  uint64_t sector = 0;
  while (sector < kDiskSectors || in_flight() > 0) {
    SimQueue& queue = *queues_[0];
    for (; sector < kDiskSectors && queue.in_flight() < kDepth; sector += kReadBackSectors) {
      PlannedRequest plan{
          .operation = wire::kRead, .sector = sector, .sector_count = kReadBackSectors};
      plan.segments.assign(kReadBackSectors / kSectorsPerPage, {0, kSectorsPerPage - 1});
      queue.submit(next_request_++, plan);
    }
    queue.publish();
    if (!backend_->listen()) throw Violation("the last backend died");
    if (!reap_all()) wait();
  }
}

}  // namespace ringdisk::sim
