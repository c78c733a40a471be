// SPDX-License-Identifier: Apache-2.0
#include "base/chunk_locks.h"

#include "base/assert.h"

namespace ringdisk {

ChunkLocks::~ChunkLocks() { RD_ASSERT(!oldest_); }

bool ChunkLocks::must_wait(const Hold& hold) const {
  for (const Hold* other = hold.previous_; other; other = other->previous_)
    if (hold.meets(*other)) return true;
  return false;
}

bool ChunkLocks::acquire(Hold& hold) {
  const std::lock_guard lock(mutex_);
  hold.next_ = nullptr;
  hold.previous_ = newest_;
  (newest_ ? newest_->next_ : oldest_) = &hold;
  newest_ = &hold;
  hold.held_ = !must_wait(hold);
  return hold.held_;
}

// Once a hold is in the chain of those that are granted, its owner may not touch it before it is
// told, so that the chain is good without the lock.
void ChunkLocks::release(Hold& hold) {
  Hold* granted = nullptr;
  Hold** tail = &granted;
  {
    const std::lock_guard lock(mutex_);
    RD_ASSERT(hold.held_);
    hold.held_ = false;
    (hold.previous_ ? hold.previous_->next_ : oldest_) = hold.next_;
    (hold.next_ ? hold.next_->previous_ : newest_) = hold.previous_;
    for (Hold* other = hold.next_; other; other = other->next_) {
      if (other->held_ || !other->meets(hold) || must_wait(*other)) continue;
      other->held_ = true;
      other->next_granted_ = nullptr;
      *tail = other;
      tail = &other->next_granted_;
    }
  }
  while (Hold* one = granted) {
    granted = one->next_granted_;
    one->granted();
  }
}

}  // namespace ringdisk
