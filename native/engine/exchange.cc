// SPDX-License-Identifier: Apache-2.0
#include "engine/exchange.h"

#include <cerrno>
#include <utility>

namespace ringdisk {

Exchange::Exchange(std::vector<Member> members, StackChange change, std::function<void(int)> over,
                   std::function<void()> held)
    : members_(std::move(members)),
      change_(std::move(change)),
      over_(std::move(over)),
      held_(std::move(held)),
      preparing_(members_.size()),
      concluding_(members_.size()) {}

void Exchange::begin() {
  for (const Member& member : members_)
    member.reactor->post_always([self = shared_from_this(), queue = member.queue] {
      queue->requests().prepare(self->change_, [self](int error) { self->on_ready(error); });
    });
}

// Who is ready waits for the conclusion, which counts on it.
void Exchange::give_up() {
  for (const Member& member : members_)
    member.reactor->post_always(
        [self = shared_from_this(), queue = member.queue] { queue->requests().cancel_prepare(); });
}

void Exchange::on_ready(int error) {
  int none = 0;
  if (error != 0) error_.compare_exchange_strong(none, error);
  if (--preparing_ > 0) return;
  if (held_ && error_ == 0)
    held_();
  else
    conclude(error_);
}

void Exchange::conclude(int error) {
  for (const Member& member : members_)
    member.reactor->post_always([self = shared_from_this(), queue = member.queue, error] {
      if (error == 0)
        queue->requests().commit();
      else
        queue->requests().abandon();
      if (--self->concluding_ == 0) self->over_(error);
    });
}

const char* exchange_failure(int error) {
  switch (error) {
    case ETIMEDOUT:
      return "what the disk has in flight did not come back in time; nothing was changed";
    case ECANCELED:
      return "the disk is being closed; nothing was changed";
    case EBUSY:
      return "another change of this disk is under way; try again when it is over";
    case ENOENT:
      return "the disk has no such filter";
    case ENOMEM:
      return "no memory for a filter; nothing was changed";
    default:
      return "a filter cannot be had; nothing was changed";
  }
}

}  // namespace ringdisk
