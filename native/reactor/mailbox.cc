// SPDX-License-Identifier: Apache-2.0
#include "reactor/mailbox.h"

#include <sys/eventfd.h>

#include <utility>

#include "protocol/limits.h"

namespace ringdisk {

Mailbox::Mailbox()
    : eventfd_(Fd::checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "cannot create an eventfd")) {}

bool Mailbox::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    if (commands_.size() >= kMailboxMax) return false;
    commands_.push_back(std::move(command));
  }
  wake();
  return true;
}

void Mailbox::post_always(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  wake();
}

void Mailbox::wake() {
  // EAGAIN means the counter is full, so the reactor is being woken anyway.
  [[maybe_unused]] const int result = ::eventfd_write(eventfd_.get(), 1);
}

std::vector<Mailbox::Command> Mailbox::take() {
  eventfd_t count;
  [[maybe_unused]] const int result = ::eventfd_read(eventfd_.get(), &count);
  const std::lock_guard lock(mutex_);
  return std::exchange(commands_, {});
}

}  // namespace ringdisk
