// SPDX-License-Identifier: Apache-2.0
// What becomes of a worker that died: another one goes on in its place, with what it has not
// answered.
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "targets/lanes.h"
#include "targets/workers.h"

namespace ringdisk {
namespace {

constexpr uint64_t kReviveMinUs = 100'000;
constexpr uint64_t kReviveMaxUs = 30'000'000;
// Whoever lets processes be killed for their memory kills several, and starts none for a moment:
// for some tries, of a second and a half together, requests wait and are not answered with errors.
constexpr uint64_t kPatientBelowUs = 1'000'000;
// One that lived so long did not die of what it found to do.
constexpr uint64_t kLongLifeUs = 1'000'000;

std::string why_ended(int status) {
  if (WIFSIGNALED(status)) return "by signal " + std::to_string(WTERMSIG(status));
  return "with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

// One that served and answered nothing may have died of what it was asked, as the next one will: it
// counts as one that could not be had.
bool Workers::was_of_use(const Record& record) {
  if (!record.serving || record.unfit) return false;
  return record.link->page_->answered.load(std::memory_order_relaxed) != record.answered_before ||
         now_us() - record.serving_since_us >= kLongLifeUs;
}

// All of its threads are gone, and with them every call they made.
void Workers::on_ended(Record& record) {
  int status = 0;
  ::waitpid(record.pid, &status, 0);
  record.pid = 0;
  if (was_of_use(record)) {
    record.revived_in_vain = false;
    record.revive_delay_us = 0;
  }
  if (record.unfit) record.revived_in_vain = true;
  record.serving = record.unfit = false;
  record.link->process_ = 0;
  drain(record);
  unwatch(record.socket);
  record.unsent.clear();
  unwatch(record.ended);
  const std::string text = "the worker of " + record.spec.path + " ended " + why_ended(status);
  WorkerReply lost;
  lost.type = WorkerReply::Type::failed;
  lost.error = EIO;
  put_text(lost.text, text);
  std::vector<Fd> none;
  for (auto& [number, on_reply] : std::exchange(record.asked, {})) on_reply(lost, none);
  if (record.on_closed) return record.leftovers.empty() ? erase(record) : could_not_revive(record);
  if (record.link->is_up() && !record.revived_in_vain) return revive(record);
  could_not_revive(record);
}

void Workers::revive_those_due() {
  const uint64_t now = now_us();
  for (auto& [link, record] : records_) {
    if (record->revive_at_us > now) continue;
    // With something to hand over: it is not erased here.
    if (record->on_closed)
      let_go(*record);
    else
      revive(*record);
  }
}

void Workers::revive(Record& record) {
  record.revive_at_us = UINT64_MAX;
  record.revived_in_vain = true;
  for (auto& doing : record.link->page_->doing) doing.call.store(0, std::memory_order_relaxed);
  record.link->page_->idle.store(0, std::memory_order_seq_cst);
  try {
    start(record);
  } catch (const std::system_error&) {
    return could_not_revive(record);
  }
  hand_leftovers_over(record);
  WorkerRequest request;
  request.type = WorkerRequest::Type::open;
  request.read_only = record.spec.read_only;
  const int fd = record.link->io_.get();
  request.adopt = fd >= 0 || record.facts.kind == MediumKind::nbd;
  request.facts = record.facts;
  put_text(request.kind, record.spec.kind);
  put_text(request.path, record.spec.path);
  ask(record, request, fd >= 0 ? std::span(&fd, 1) : std::span<const int>(),
      [this, &record](WorkerReply& reply, std::vector<Fd>&) { revived(record, reply); });
}

// The path may be another medium by now; what was written must go to the one that was served.
void Workers::revived(Record& record, WorkerReply& reply) {
  const bool same = reply.type == WorkerReply::Type::opened &&
                    std::strncmp(reply.facts.identity.data(), record.facts.identity.data(),
                                 reply.facts.identity.size()) == 0;
  if (!same) {
    record.revived_in_vain = true;
    return end_process(record);
  }
  if (!record.claim) return hand_lanes_over(record);
  WorkerRequest request;
  request.type = WorkerRequest::Type::claim;
  request.share = record.claim->share;
  request.take_over = true;
  const int fd = record.exclusive.get();
  const std::span<const int> kept = fd >= 0 ? std::span(&fd, 1) : std::span<const int>();
  ask(record, request, kept, [this, &record](WorkerReply& answer, std::vector<Fd>& fds) {
    if (answer.error != 0) return end_process(record);
    keep_exclusive(record, fds);
    // Else somebody else has it meanwhile: nothing may be written until they let go of it.
    if (!answer.fenced) fence_is_lifted(record, "");
  });
}

// To each worker once: one that already takes calls from a lane must not see it begin anew.
void Workers::hand_lanes_over(Record& record) {
  if (std::exchange(record.serving, true)) return;
  record.serving_since_us = now_us();
  record.answered_before = record.link->page_->answered.load(std::memory_order_relaxed);
  record.link->up_.store(true, std::memory_order_release);
  send_wishes(record);
  for (const LaneRecord& lane : record.lanes) {
    lane.lanes->with_lane(lane.id,
                          [this, link = record.link, generation = record.generation](Lane& mine) {
                            mine.start_over();
                            // Only then may the new worker see it.
                            post([this, link, generation, id = mine.id()] {
                              Record* known = find(link);
                              if (!known || known->generation != generation) return;
                              for (const LaneRecord& one : known->lanes)
                                if (one.id == id) send_lane(*known, one);
                            });
                          });
  }
}

void Workers::could_not_revive(Record& record) {
  record.revive_delay_us = std::clamp(record.revive_delay_us * 2, kReviveMinUs, kReviveMaxUs);
  record.revive_at_us = now_us() + record.revive_delay_us;
  if (record.revive_delay_us < kPatientBelowUs) return;
  record.link->up_.store(false, std::memory_order_release);
  tell_of_none(record);
  for (const LaneRecord& lane : record.lanes)
    lane.lanes->with_lane(lane.id, [](Lane& mine) { mine.fail_all(); });
}

}  // namespace ringdisk
