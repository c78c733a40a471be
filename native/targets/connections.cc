// SPDX-License-Identifier: Apache-2.0
// How channels get connections to their target's server: its worker makes them.
#include <utility>

#include "targets/workers.h"

namespace ringdisk {

void Workers::connect(const Link& link, Wish wish) {
  post([this, link, wish = std::move(wish)]() mutable {
    Record* record = find(link);
    if (!record) return;
    Wish& kept = record->wishes[wish.id] = std::move(wish);
    // Else with the others, when its worker is ready.
    if (record->serving) return send_wish(*record, kept);
    if (!record->link->is_up()) kept.on_told({.why = "it has no worker"});
  });
}

void Workers::forget(const Link& link, uint32_t id) {
  post([this, link, id] {
    Record* record = find(link);
    if (!record || record->wishes.erase(id) == 0 || !record->serving) return;
    WorkerRequest request;
    request.type = WorkerRequest::Type::forget;
    request.lane = id;
    ask(*record, request, {}, nullptr);
  });
}

void Workers::send_wish(Record& record, const Wish& wish) {
  WorkerRequest request;
  request.type = WorkerRequest::Type::connect;
  request.lane = wish.id;
  request.ended = wish.ended;
  request.failures = wish.failures;
  ask(record, request, {}, nullptr);
}

void Workers::send_wishes(Record& record) {
  for (const auto& [id, wish] : record.wishes) send_wish(record, wish);
}

void Workers::tell_of_none(Record& record) {
  for (const auto& [id, wish] : record.wishes) wish.on_told({.why = "it has no worker"});
}

// One that nobody wants any more is closed with `fds`.
void Workers::on_connection(Record& record, const WorkerReply& reply, std::vector<Fd>& fds) {
  const auto found = record.wishes.find(reply.lane);
  if (found == record.wishes.end()) return;
  if (reply.type == WorkerReply::Type::unreachable)
    return found->second.on_told({.why = reply.text.data()});
  if (fds.empty()) {
    // We have no descriptor left, and the worker takes the wish for fulfilled.
    found->second.on_told({.why = "there is no descriptor for it"});
    found->second.failures++;
    return send_wish(record, found->second);
  }
  const Wish wish = std::move(found->second);
  record.wishes.erase(found);
  wish.on_told({.socket = std::make_shared<Fd>(std::move(fds[0])),
                .peer = reply.peer,
                .server = reply.server});
}

}  // namespace ringdisk
